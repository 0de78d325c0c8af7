"""Randomized sharpness-aware training (RST): a coin decides between SAM's step and the base's.

The name is close to R-SAM's, and the two share nothing but the word: here the choice of the step is
random, there the place where the first gradient is taken.

Implementation details
----------------------
- **With probability p the step is SAM's,** with two gradients; else it is the base optimizer's.
- **p = 1 is SAM, p = 0 the base optimizer,** bit for bit.
- **p may be a schedule,** as the authors have it.
- **The coin is thrown by seed and step,** so nothing of it is a checkpoint's state.

Other readings
--------------
- **With a mixture of g0 and g** in SAM's branch, so that the strength does not depend on p (G-RST).
  It is not here.

References
----------
- Yang Zhao, Hao Zhang, Xiuyuan Hu. *Randomized Sharpness-Aware Training for Boosting Computational
  Efficiency in Deep Learning.* 2022, arXiv 2203.09962.
"""

from __future__ import annotations

from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting
from rsam_ref.algorithms.sam import LossAndGrad, Trace, Vector, sam_gradient
from rsam_ref.algorithms.settings import plain_numbers


@plain_numbers
def random_sam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, coin: float, rho: float, p: float = 0.5
) -> Trace:
    """RST: SAM's gradient if ``coin``, uniform in [0, 1), is below p; else that at w.

    >>> import numpy as np
    >>> for coin in (0.2, 0.7):
    ...     trace = random_sam_gradient(
    ...         lambda w: (w @ w / 2, w), np.array([3.0, 4.0]), coin=coin, rho=1.0
    ...     )
    ...     print(trace.gradient.round(3))
    [3.6 4.8]
    [3. 4.]
    """
    if coin < p:
        return sam_gradient(loss_and_grad, w, rho=rho)
    loss, g = loss_and_grad(w)
    return Trace(loss=loss, gradient=g)


RANDOM_SAM = Relative(
    name="rst",
    title="RST",
    rule=random_sam_gradient,
    update="with probability p SAM's step, else the base's",
    gradients="1 + p",
    source="Zhao, Zhang and Hu, 2022",
    settings={
        "rho": Setting(0.05, RHO),
        "p": Setting(0.5, "the probability of SAM's step", high=1),
    },
    needs=("coin",),
    is_sam="p = 1",
    against_rsam="which step is taken is random, not where its gradient is",
    packages="none",
)
