"""Curvature-regularised SAM: the loss on both sides of w, so that curvature counts by itself.

Beside SAM's gradient at w + eps one is taken at w - eps. Their sum less twice g0 is the gradient of
the curvature along eps, and their difference that of the slope, neither divided by eps's length;
both are added with a weight.

Implementation details
----------------------
- **The rule is that of the authors' code,** the gradient of ``L(w + eps) + gamma (L(w + eps) + L(w
  - eps) - 2 L(w)) + beta (L(w + eps) - L(w - eps))`` with eps held fixed.
- **gamma = beta = 0 is SAM,** bit for bit, at the cost of a third gradient.
- **Three gradients a step,** on the same mini-batch with the same dropout masks.
- **The defaults are those of the authors' script** (beta 0.01, where their class has 0.1).

Other readings
--------------
- **The paper's regulariser is logarithmic** (a normalised trace of the Hessian): its gradient has
  the two sums of losses below the two terms. The code stores these losses and does not use them.

References
----------
- Tao Wu, Tie Luo, Donald C. Wunsch II. *CR-SAM: Curvature Regularized Sharpness-Aware
  Minimization.* AAAI 2024.
"""

from __future__ import annotations

from dataclasses import replace

from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting
from rsam_ref.algorithms.sam import LossAndGrad, Trace, Vector, sam_gradient
from rsam_ref.algorithms.settings import plain_numbers


@plain_numbers
def cr_sam_gradient(
    loss_and_grad: LossAndGrad,
    w: Vector,
    *,
    rho: float,
    gamma: float = 0.1,
    beta: float = 0.01,
) -> Trace:
    """CR-SAM: g+ + gamma (g+ + g- - 2 g0) + beta (g+ - g-), with g+ and g- at w + eps and w - eps.

    >>> import numpy as np
    >>> steep = lambda w: (w[0] ** 3, np.array([3 * w[0] ** 2]))
    >>> trace = cr_sam_gradient(steep, np.array([1.0]), rho=0.1, gamma=1.0, beta=0.0)
    >>> print(trace.gradient.round(3))
    [3.69]
    """
    trace = sam_gradient(loss_and_grad, w, rho=rho)
    g0: Vector = trace.ascent_gradient
    above = trace.gradient  # g+ = grad L(w + eps)
    _, below = loss_and_grad(w - trace.perturbation)  # g- = grad L(w - eps)
    curvature, slope = above + below - 2 * g0, above - below
    return replace(trace, gradient=above + gamma * curvature + beta * slope)


CR_SAM = Relative(
    name="cr-sam",
    title="CR-SAM",
    rule=cr_sam_gradient,
    update="eps as SAM, g+ and g- at w + eps and w - eps; the base steps with "
    "g+ + gamma (g+ + g- - 2 g0) + beta (g+ - g-)",
    gradients="3",
    source="Wu, Luo and Wunsch, AAAI 2024",
    settings={
        "rho": Setting(0.1, RHO),
        "gamma": Setting(0.1, "the weight of the curvature"),
        "beta": Setting(0.01, "the weight of the slope"),
    },
    is_sam="gamma = beta = 0",
    against_rsam="no draw; a third gradient, on the other side of w",
    packages="none",
)
