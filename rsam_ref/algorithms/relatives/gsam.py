"""Surrogate gap guided SAM: SAM's gradient less a share of what the first one has across it.

The surrogate gap is the loss at w + eps less that at w. What g0 has at right angles to g raises the
loss at w and, to first order, leaves that at w + eps as it is. So a step that goes up along that
part as well shrinks the gap at no cost to the perturbed loss.

Implementation details
----------------------
- **g0 is taken apart along g,** not g along g0: what is taken away is at right angles to g.
- **alpha = 0 is SAM,** bit for bit.
- **Where g is zero all of g0 is across,** and -alpha g0 is left, as in the authors' code.
- **The paper lets rho follow the learning rate,** linearly between two values. Here ``rho`` takes
  any schedule, and a number is constant; in a recipe ``rho_low`` makes it follow the learning rate.

Other readings
--------------
- **g taken apart along g0,** tensor by tensor, as a package has it, is another method.
- **adaptive:** the ascent scaled as ASAM's, as in the authors' example. It is not here.

References
----------
- Juntang Zhuang, Boqing Gong, Liangzhe Yuan, Yin Cui, Hartwig Adam, Nicha Dvornek, Sekhar
  Tatikonda, James Duncan, Ting Liu. *Surrogate Gap Minimization Improves Sharpness-Aware Training.*
  ICLR 2022.
"""

from __future__ import annotations

from dataclasses import replace

from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, sam_gradient
from rsam_ref.algorithms.settings import plain_numbers


@plain_numbers
def gsam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, rho: float, alpha: float = 0.4
) -> Trace:
    """GSAM: g - alpha g0', with g0' the part of g0 across g.

    >>> import numpy as np
    >>> bowl = lambda w: (w[0] ** 2 / 2 + w[1] ** 2, np.array([w[0], 2 * w[1]]))
    >>> trace = gsam_gradient(bowl, np.array([3.0, 2.0]), rho=1.0, alpha=0.5)
    >>> print(trace.gradient.round(3))
    [3.448 5.697]
    """
    trace = sam_gradient(loss_and_grad, w, rho=rho)
    g0, g = trace.ascent_gradient, trace.gradient
    across = g0 - (g0 @ g) / (g @ g + TINY**2) * g  # g0 = (part along g) + across
    return replace(trace, gradient=g - alpha * across)


GSAM = Relative(
    name="gsam",
    title="GSAM",
    rule=gsam_gradient,
    update="eps as SAM; the base steps with g - alpha (g0 - (g0 g / ||g||^2) g)",
    gradients="2",
    source="Zhuang et al., ICLR 2022",
    settings={
        "rho": Setting(0.05, RHO),
        "alpha": Setting(0.4, "how much of g0's part across g is taken away"),
    },
    is_sam="alpha = 0",
    against_rsam="no draw; g loses a share of what g0 has across it",
    packages="pytorch_optimizer 4.1.0 and zij 0.1.1: compute it; torchium 0.1.5: computes another",
)
