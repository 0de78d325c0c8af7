"""Friendly SAM: the ascent follows what is this mini-batch's own in its gradient.

A mini-batch's gradient is the whole data's plus noise. Friendly SAM takes a running mean of the
first gradients for the former and climbs along the rest: the perturbation raises the loss of this
mini-batch, and that of other data less. It draws nothing, so it shares no more with R-SAM than
SAM's outer form.

Implementation details
----------------------
- **The mean that is subtracted is the one before this step.** The first step is SAM's, and its g0
  is the first mean. So in the authors' code.
- **Only the direction of d counts,** so a mean that has already taken in this step's gradient gives
  the same step for sigma = 1.
- **sigma = 0 is SAM,** bit for bit. The name is the paper's; it is no noise scale.
- **The mean is a checkpoint's state.**

Other readings
--------------
- **The paper's order,** the mean updated before it is subtracted: for a sigma other than 1 its
  sigma is ``sigma lam / (1 - sigma (1 - lam))`` here; it differs in the first steps, where its mean
  starts at 0.
- **adaptive:** the ascent scaled as ASAM's. It is not here.

References
----------
- Tao Li, Pan Zhou, Zhengbao He, Xinwen Cheng, Xiaolin Huang. *Friendly Sharpness-Aware
  Minimization.* CVPR 2024.
"""

from __future__ import annotations

from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting, State
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, norm
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def friendly_sam_gradient(
    loss_and_grad: LossAndGrad,
    w: Vector,
    *,
    state: State,
    rho: float,
    sigma: float = 1.0,
    lam: float = 0.9,
) -> tuple[Trace, State]:
    """Friendly SAM: eps along g0 - sigma m, with m the running mean of the earlier g0.

    >>> import numpy as np
    >>> w, state = np.array([3.0, 4.0]), {"m": np.array([3.0, 0.0])}
    >>> trace, state = friendly_sam_gradient(lambda w: (w @ w / 2, w), w, state=state, rho=1.0)
    >>> print(trace.perturbation.round(3), state["m"].round(3))
    [0. 1.] [3.  0.4]
    """
    check_step(rho=rho)
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    m = state.get("m")
    d = g0 if m is None else g0 - sigma * m
    eps = rho / (norm(d) + TINY) * d  # eps = rho d / ||d||
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    mean = g0 * 1 if m is None else lam * m + (1 - lam) * g0
    return Trace(loss, g, None, g0, eps, adversarial_loss), {"m": mean}


FRIENDLY_SAM = Relative(
    name="friendly-sam",
    title="Friendly SAM",
    rule=friendly_sam_gradient,
    update="d = g0 - sigma m; eps = rho d / ||d||; g = grad L(w + eps); m <- lam m + (1 - lam) g0",
    gradients="2",
    source="Li et al., CVPR 2024",
    settings={
        "rho": Setting(0.05, RHO),
        "sigma": Setting(1.0, "how much of the mean is taken away"),
        "lam": Setting(0.9, "the share of the mean that is kept in a step", high=1),
    },
    needs=("state",),
    keeps="m (P,)",
    is_sam="sigma = 0",
    against_rsam="no draw; the ascent leaves out the mean of earlier gradients",
    packages="pytorch_optimizer 4.1.0: computes it",
)
