"""VaSSO: the ascent follows a running mean of the first gradients.

One mini-batch's gradient is a noisy sign of where the loss rises. VaSSO smooths it over the steps,
so that neighbouring steps climb in similar directions: the variance of the ascent is suppressed.

Implementation details
----------------------
- **The mean takes in this step's gradient first,** and is then climbed along.
- **theta is the new gradient's share.** theta = 1 is SAM, bit for bit.
- **The first mean is the first gradient,** so the first step is SAM's. So in the authors' code.
- **The mean is a checkpoint's state.**

Other readings
--------------
- The authors' code adds 1e-7 to the norm where 1e-12 is added here, and takes the perturbation off
  by subtraction.

References
----------
- Bingcong Li, Georgios B. Giannakis. *Enhancing Sharpness-Aware Optimization Through Variance
  Suppression.* NeurIPS 2023.
"""

from __future__ import annotations

from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting, State
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, norm
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def vasso_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, state: State, rho: float, theta: float = 0.9
) -> tuple[Trace, State]:
    """VaSSO: eps along d, the running mean of the first gradients with this one in it.

    >>> import numpy as np
    >>> w, state = np.array([3.0, 4.0]), {"d": np.array([3.0, -4.0])}
    >>> bowl = lambda w: (w @ w / 2, w)
    >>> trace, state = vasso_gradient(bowl, w, state=state, rho=1.0, theta=0.5)
    >>> print(trace.perturbation.round(3), state["d"].round(3))
    [1. 0.] [3. 0.]
    """
    check_step(rho=rho)
    if not 0 < theta <= 1:
        raise ValueError(f"theta is the new gradient's share and lies in (0, 1], not {theta}")
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    d = (1 - theta) * state["d"] + theta * g0 if state else g0 * 1
    eps = rho / (norm(d) + TINY) * d  # eps = rho d / ||d||
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    return Trace(loss, g, None, g0, eps, adversarial_loss), {"d": d}


VASSO = Relative(
    name="vasso",
    title="VaSSO",
    rule=vasso_gradient,
    update="d <- (1 - theta) d + theta g0; eps = rho d / ||d||; g = grad L(w + eps)",
    gradients="2",
    source="Li and Giannakis, NeurIPS 2023",
    settings={
        "rho": Setting(0.05, RHO),
        "theta": Setting(0.9, "the new gradient's share of the mean", above=True, high=1),
    },
    needs=("state",),
    packages="none",
    keeps="d (P,)",
    is_sam="theta = 1",
    against_rsam="no draw; the ascent follows a mean of gradients over the steps",
)
