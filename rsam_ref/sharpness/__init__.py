"""Flatness, measured: how the loss changes around weights w, which stay as they are.

Every measure is a pure function of a loss and a flat vector w::

    directions.py   the loss along random directions, filter by filter as long as w
    ascent.py       the largest rise within a radius rho: projected gradient ascent
    smoothing.py    the mean rise, and the gradient's turn, under filter-wise Gaussian noise
    hessian.py      the largest eigenvalues of the Hessian: Lanczos on gradient differences
    branch.py       the smooth branch that a network of ReLUs is on: what has that Hessian
    inner.py        how much of the largest rise SAM and R-SAM reach in their one step

``loss_and_grad(w)`` is what the optimizers see, an `objective`, and `landscape.py` makes the one to
measure with: it leaves the model and its running statistics as they were. `survey.py` takes all
measures of a trained model and `kept.py` keeps them, for ``rsam-ref sharpness``.
"""

from rsam_ref.sharpness.ascent import Ascent, rho_sharpness
from rsam_ref.sharpness.branch import Branch
from rsam_ref.sharpness.directions import filter_normalised_direction, loss_along, loss_over_plane
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.hessian import Eigenvalues, hessian_eigenvalues, hessian_product
from rsam_ref.sharpness.inner import METHODS, InnerMaximum, Reached, inner_maximum
from rsam_ref.sharpness.landscape import Landscape
from rsam_ref.sharpness.smoothing import average_sharpness, gradient_stability

__all__ = [
    "METHODS",
    "Ascent",
    "Branch",
    "Eigenvalues",
    "Estimate",
    "InnerMaximum",
    "Landscape",
    "Reached",
    "average_sharpness",
    "filter_normalised_direction",
    "gradient_stability",
    "hessian_eigenvalues",
    "hessian_product",
    "inner_maximum",
    "loss_along",
    "loss_over_plane",
    "rho_sharpness",
]
