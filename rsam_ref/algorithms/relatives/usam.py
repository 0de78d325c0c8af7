"""Unnormalised SAM: the ascent goes as far as the gradient is long.

SAM brings the gradient to the length rho; here the gradient itself is taken rho times. Much of the
theory on SAM is about this rule, because it has no norm in it. Where the gradient is small, so is
the ascent, and a loss that is scaled up is perturbed further.

Implementation details
----------------------
- **rho is no radius.** It is a step size, in units of weights per gradient.
- **No epsilon is needed:** a zero gradient gives a zero perturbation by itself.

Other readings
--------------
- **In a ball:** the functions that the authors' training calls shorten an eps that is longer than
  rho to rho, so where ||g0|| > 1 the step is SAM's. Their class does not.
- **A mixture:** the ascent is ``rho (1 - l + l / ||g0||) g0``, which is this rule for l = 0 and SAM
  for l = 1. It is published as Unified SAM.

References
----------
- Maksym Andriushchenko, Nicolas Flammarion. *Towards Understanding Sharpness-Aware Minimization.*
  ICML 2022.
"""

from __future__ import annotations

from rsam_ref.algorithms.relatives.form import Relative, Setting
from rsam_ref.algorithms.sam import LossAndGrad, Trace, Vector
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def usam_gradient(loss_and_grad: LossAndGrad, w: Vector, *, rho: float) -> Trace:
    """Unnormalised SAM: eps = rho g0.

    >>> import numpy as np
    >>> trace = usam_gradient(lambda w: (w @ w / 2, w), np.array([3.0, 4.0]), rho=0.1)
    >>> print(trace.perturbation.round(3), trace.gradient.round(3))
    [0.3 0.4] [3.3 4.4]
    """
    check_step(rho=rho)
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    eps = rho * g0  # eps = rho g0: no norm
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    return Trace(loss, g, None, g0, eps, adversarial_loss)


USAM = Relative(
    name="usam",
    title="Unnormalised SAM",
    rule=usam_gradient,
    update="eps = rho g0; g = grad L(w + eps)",
    gradients="2",
    source="Andriushchenko and Flammarion, ICML 2022",
    settings={"rho": Setting(0.05, "a step size, in weights per gradient")},
    against_rsam="no draw, and the ascent is not brought to a length",
    packages="unifiedsam 1.0.0 with its lambda at 0",
)
