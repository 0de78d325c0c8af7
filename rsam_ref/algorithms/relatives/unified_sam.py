"""Unified SAM: a mixture of SAM and of the ascent that is not brought to a length.

One number goes from unnormalised SAM to SAM, which lets theory treat both at once.

Implementation details
----------------------
- **share = 1 is SAM,** to rounding; **share = 0 is unnormalised SAM.** The paper calls it lambda.
- **rho has no single unit:** a step size for share = 0, a radius for share = 1.

Other readings
--------------
- **lambda as a function of the step,** 1 / t or 1 - 1 / t with t from 1: give a schedule for
  ``share``; schedules here count from 0.

References
----------
- Dimitris Oikonomou, Nicolas Loizou. *Sharpness-Aware Minimization: General Analysis and Improved
  Rates.* ICLR 2025.
"""

from __future__ import annotations

from rsam_ref.algorithms.relatives.form import Relative, Setting
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, norm
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def unified_sam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, rho: float, share: float = 0.5
) -> Trace:
    """Unified SAM: eps = rho (1 - share + share / ||g0||) g0.

    >>> import numpy as np
    >>> trace = unified_sam_gradient(lambda w: (w @ w / 2, w), np.array([3.0, 4.0]), rho=0.1)
    >>> print(trace.perturbation.round(3), trace.gradient.round(3))
    [0.18 0.24] [3.18 4.24]
    """
    check_step(rho=rho)
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    factor = rho * (1 - share + share / (norm(g0) + TINY))
    eps = factor * g0  # eps = rho (1 - share + share / ||g0||) g0
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    return Trace(loss, g, None, g0, eps, adversarial_loss)


UNIFIED_SAM = Relative(
    name="unified-sam",
    title="Unified SAM",
    rule=unified_sam_gradient,
    update="eps = rho (1 - share + share / ||g0||) g0; g = grad L(w + eps)",
    gradients="2",
    source="Oikonomou and Loizou, ICLR 2025",
    settings={
        "rho": Setting(0.05, "a step size and a radius, by share"),
        "share": Setting(0.5, "SAM's share of the ascent", high=1),
    },
    is_sam="share = 1, to rounding",
    against_rsam="no draw; the ascent is brought to a length in part",
    packages="unifiedsam 1.0.0: computes it",
)
