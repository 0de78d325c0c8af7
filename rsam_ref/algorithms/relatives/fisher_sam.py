"""Fisher SAM: the radius is measured by the Fisher information, not by Euclid's length.

A ball of weights is no ball of predictions. Fisher SAM measures a move by how much it changes what
the network says, with the square of the mini-batch's gradient for the Fisher information: weights
with large gradients are moved less.

Implementation details
----------------------
- **F = 1 + eta g0^2, weight by weight:** the mini-batch's mean gradient squared, not a mean of
  squares; the 1 keeps it away from 0.
- **The length is measured in the same metric:** eps^T F eps = rho^2.
- **eta = 0 is SAM,** bit for bit.
- **It is not free of the loss' scale:** eta weighs g0^2 against 1.

Other readings
--------------
- **Sparse SAM** uses the Fisher information for a mask; it has been called Fisher SAM as well.

References
----------
- Minyoung Kim, Da Li, Shell Xu Hu, Timothy M. Hospedales. *Fisher SAM: Information Geometry and
  Sharpness Aware Minimisation.* ICML 2022.
"""

from __future__ import annotations

from rsam_ref.algorithms.relatives.form import Relative, Setting
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def fisher_sam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, rho: float, eta: float = 1.0
) -> Trace:
    """Fisher SAM: eps = rho F^-1 g0 / sqrt(g0 F^-1 g0), F = 1 + eta g0^2.

    >>> import numpy as np
    >>> trace = fisher_sam_gradient(lambda w: (w @ w / 2, w), np.array([3.0, 4.0]), rho=1.0)
    >>> print(trace.perturbation.round(3), trace.gradient.round(3))
    [0.221 0.173] [3.221 4.173]
    """
    check_step(rho=rho)
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    flat = g0 / (1 + eta * g0 * g0)  # F^-1 g0
    eps = rho / ((g0 @ flat) ** 0.5 + TINY) * flat  # eps = rho F^-1 g0 / sqrt(g0 F^-1 g0)
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    return Trace(loss, g, None, g0, eps, adversarial_loss)


FISHER_SAM = Relative(
    name="fisher-sam",
    title="Fisher SAM",
    rule=fisher_sam_gradient,
    update="eps = rho F^-1 g0 / sqrt(g0 F^-1 g0), F = 1 + eta g0^2; g = grad L(w + eps)",
    gradients="2",
    source="Kim, Li, Hu and Hospedales, ICML 2022",
    settings={
        "rho": Setting(0.1, "the radius, measured by F"),
        "eta": Setting(1.0, "the weight of g0^2 in F"),
    },
    is_sam="eta = 0",
    against_rsam="no draw; the ascent is measured by the Fisher information",
    packages="none",
)
