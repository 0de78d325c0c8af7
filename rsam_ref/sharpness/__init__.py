"""Flatness, measured: how the loss changes around weights w, which stay as they are.

Every measure is a pure function of a loss and a flat vector w::

    directions.py    the loss along random directions, filter by filter as long as w
    ascent.py        the largest rise within a radius rho: projected gradient ascent
    smoothing.py     the mean rise, kinks in it, and the gradient's turn, under filter-wise noise
    hessian.py       the Hessian's product with a vector: what the next four ask
    eigenvalues.py   its largest and lowest eigenvalues, with bounds: Lanczos' iteration
    trace.py         its trace and every layer's share, with intervals: Hutchinson, Hutch++
    density.py       the density of all its eigenvalues: stochastic Lanczos quadrature
    gauss_newton.py  what stands in for the Hessian: Gauss-Newton's matrix, the empirical Fisher
    planes.py        planes along eigenvectors, through three models, along a trajectory
    barrier.py       the loss between two models, after matching their units
    between.py       pictures of the loss between models, on losses and accuracies of scored.py
    branch.py        the smooth branch that a network of ReLUs is on: what has that Hessian
    inner.py         how much of the largest rise SAM and R-SAM reach in their one step
    paths.py         where SAM, k-step SAM and R-SAM climb from w, and view.py, a view to turn

``loss_and_grad(w)`` is what the optimizers see, an `objective`, and `landscape.py` makes the one to
measure with: it leaves the model and its running statistics as they were. `survey.py` takes all
measures of a trained model and `kept.py` keeps them, for ``rsam-ref sharpness``. The vectors may be
PyTorch's, and the loss then `rsam_ref.pytorch.objective`; or JAX's, and `rsam_ref.jax.objective`.
"""

from rsam_ref.sharpness.ascent import Ascent, m_sharpness, rho_sharpness
from rsam_ref.sharpness.barrier import Barrier, loss_barrier, matched
from rsam_ref.sharpness.branch import Branch
from rsam_ref.sharpness.density import Density, spectral_density
from rsam_ref.sharpness.directions import filter_normalised_direction, loss_along, loss_over_plane
from rsam_ref.sharpness.eigenvalues import Eigenvalues, curvature_over_parts, hessian_eigenvalues
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.gauss_newton import (
    GaussNewton,
    exact_traces,
    fisher_trace,
    gauss_newton_eigenvalues,
    gauss_newton_trace,
)
from rsam_ref.sharpness.hessian import block, extrapolated_product, hessian_product, product_at
from rsam_ref.sharpness.inner import METHODS, InnerMaximum, Reached, inner_maximum
from rsam_ref.sharpness.landscape import Landscape
from rsam_ref.sharpness.outputs import ModelOutputs, Outputs
from rsam_ref.sharpness.planes import Plane, plane_along, plane_of_trajectory, plane_through
from rsam_ref.sharpness.smoothing import Kinks, average_sharpness, gradient_stability, kinks
from rsam_ref.sharpness.trace import TraceEstimate, hutch_plus_plus, hutchinson

__all__ = [
    "METHODS",
    "Ascent",
    "Barrier",
    "Branch",
    "Density",
    "Eigenvalues",
    "Estimate",
    "GaussNewton",
    "InnerMaximum",
    "Kinks",
    "Landscape",
    "ModelOutputs",
    "Outputs",
    "Plane",
    "Reached",
    "TraceEstimate",
    "average_sharpness",
    "block",
    "curvature_over_parts",
    "exact_traces",
    "extrapolated_product",
    "filter_normalised_direction",
    "fisher_trace",
    "gauss_newton_eigenvalues",
    "gauss_newton_trace",
    "gradient_stability",
    "hessian_eigenvalues",
    "hessian_product",
    "hutch_plus_plus",
    "hutchinson",
    "inner_maximum",
    "kinks",
    "loss_along",
    "loss_barrier",
    "loss_over_plane",
    "m_sharpness",
    "matched",
    "plane_along",
    "plane_of_trajectory",
    "plane_through",
    "product_at",
    "rho_sharpness",
    "spectral_density",
]
