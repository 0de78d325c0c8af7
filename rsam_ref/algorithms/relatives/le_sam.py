"""Loss-equated SAM: the ascent goes as far as the loss should rise, not as far as a radius says.

SAM's perturbation raises the loss, to first order, by rho ||g0||: more where the gradient is long.
Here the rise is given, sigma, and the radius follows from it: sigma / ||g0||, though never more
than rho. So the ascent goes further where the gradient is short; SAM's is as long everywhere.

Implementation details
----------------------
- **rho is the largest radius,** and is the radius where the gradient is short: late in training,
  when it vanishes, nothing else keeps the ascent bounded.
- **sigma is a rise of the loss,** in its units; it is no noise scale. A schedule may be given: the
  paper lets it fall to 0 over the last epochs.
- **A sigma so large that rho binds is SAM,** bit for bit.
- **The defaults are those of the authors' script** (sigma 0.35, rho 0.3).

Other readings
--------------
- **The authors' code lets sigma rise from 0** over the first ten epochs, then keeps it, then lets
  it fall to 0 along half a cosine; its recipe does not bound the radius (rho = 999).

References
----------
- Jinping Wang, Qinhan Liu, Zhiwu Xie, Zhiqiang Gao. *Fix the Loss, Not the Radius: Rethinking the
  Adversarial Perturbation of Sharpness-Aware Minimization.* ICML 2026, arXiv 2605.10183.
"""

from __future__ import annotations

from rsam_backends import xp
from rsam_ref.algorithms.relatives.form import Relative, Setting
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, norm
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def le_sam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, rho: float, sigma: float = 0.35
) -> Trace:
    """LE-SAM: eps = min(sigma / ||g0||, rho) g0 / ||g0||.

    >>> import numpy as np
    >>> trace = le_sam_gradient(lambda w: (w @ w / 2, w), np.array([3.0, 4.0]), rho=1.0, sigma=0.5)
    >>> print(trace.perturbation.round(3), round(trace.perturbation @ trace.ascent_gradient, 9))
    [0.06 0.08] 0.5
    """
    check_step(rho=rho)
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma is a rise of the loss and must be finite and >= 0, not {sigma}")
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    length = norm(g0) + TINY
    radius = xp.minimum(sigma / length, rho)
    eps = radius / length * g0  # eps = min(sigma / ||g0||, rho) g0 / ||g0||
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    return Trace(loss, g, None, g0, eps, adversarial_loss)


LE_SAM = Relative(
    name="le-sam",
    title="LE-SAM",
    rule=le_sam_gradient,
    update="eps = min(sigma / ||g0||, rho) g0 / ||g0||; g = grad L(w + eps)",
    gradients="2",
    source="Wang et al., ICML 2026",
    settings={
        "rho": Setting(0.3, "the largest radius, in units of the weights"),
        "sigma": Setting(0.35, "the rise of the loss"),
    },
    is_sam="sigma so large that rho binds",
    packages="none",
    against_rsam="no draw; the radius is what raises the loss by a given amount",
)
