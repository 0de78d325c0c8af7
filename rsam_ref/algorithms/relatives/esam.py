"""ESAM's stochastic weight perturbation: SAM's perturbation on a random share of the weights.

Efficient SAM has two parts. This is the first: in every step each weight is perturbed with
probability beta, and by 1 / beta as much, so that the mean perturbation is SAM's. A gradient that
is needed for some tensors only is cheaper, which is what the authors are after.

Implementation details
----------------------
- **Each weight is drawn by itself,** as the paper has it; the mean over draws is SAM's eps.
- **The norm is that of the whole g0.** So ||eps|| is about rho / sqrt(beta), not rho.
- **beta = 1 is SAM,** bit for bit.
- **The draw is fixed by seed and step,** so nothing of it is a checkpoint's state.
- **Nothing is saved here:** g0 is taken in whole. This is what the rule computes, not its speed.

Other readings
--------------
- **The authors' code draws tensor by tensor,** and takes the norm over the tensors that were drawn,
  so that ||eps|| = rho / beta in every step. What is drawn holds for the next step; the first
  perturbs all.
- **Without 1 / beta,** as in a port of it.
- **The second part of ESAM,** the mini-batch's samples whose loss rises most, is not here.

References
----------
- Jiawei Du, Hanshu Yan, Jiashi Feng, Joey Tianyi Zhou, Liangli Zhen, Rick Siow Mong Goh, Vincent Y.
  F. Tan. *Efficient Sharpness-Aware Minimization for Improved Training of Neural Networks.* ICLR
  2022.
"""

from __future__ import annotations

from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, norm
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def esam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, mask: Vector, rho: float, beta: float = 0.6
) -> Trace:
    """Stochastic weight perturbation; ``mask`` (P,) is 1 with probability beta, else 0.

    >>> import numpy as np
    >>> w, mask = np.array([3.0, 4.0]), np.array([0.0, 1.0])
    >>> trace = esam_gradient(lambda w: (w @ w / 2, w), w, mask=mask, rho=1.0, beta=0.5)
    >>> print(trace.perturbation.round(3), trace.gradient.round(3))
    [0.  1.6] [3.  5.6]
    """
    check_step(rho=rho)
    if not 0 < beta <= 1:
        raise ValueError(f"beta is the share that is perturbed and lies in (0, 1], not {beta}")
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    eps = rho / (norm(g0) + TINY) / beta * (mask * g0)  # eps = (rho / beta) m g0 / ||g0||
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    return Trace(loss, g, None, g0, eps, adversarial_loss)


ESAM = Relative(
    name="esam",
    title="ESAM's weight perturbation",
    rule=esam_gradient,
    update="eps = (rho / beta) m g0 / ||g0||, m_i = 1 with probability beta, else 0; "
    "g = grad L(w + eps)",
    gradients="2",
    source="Du et al., ICLR 2022",
    settings={
        "rho": Setting(0.05, RHO),
        "beta": Setting(0.6, "the share of the weights that is perturbed", above=True, high=1),
    },
    needs=("mask",),
    packages="none",
    is_sam="beta = 1",
    against_rsam="what is drawn is which weights are perturbed, not where the gradient is taken",
)
