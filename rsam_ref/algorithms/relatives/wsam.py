"""Weighted SAM: sharpness as a term with a weight of its own.

The loss is L(w) + gamma / (1 - gamma) times the sharpness L(w + eps) - L(w). For gamma = 1/2 that
is the perturbed loss, SAM's; for a larger gamma flatness counts for more than the loss at w. The
form that is published as the default lets the sharpness' part go past the base optimizer, so that
its momentum and its second moments are those of g0 alone.

Implementation details
----------------------
- **gamma = 1/2 is SAM** to rounding: in one piece around any base, decoupled around SGD without
  momentum and without clipping.
- **Decoupled, the base steps with g0,** and the weights move besides by ``-lr gamma / (1 - gamma)
  (g - g0)``: no momentum, weight decay or clipping sees that part. So the base must have an ``lr``.
- **gamma = 0 is the base optimizer** in either form.

Other readings
--------------
- **In one piece** (``wsam-coupled``): the base steps with ``(1 - 2 gamma) / (1 - gamma) g0 + gamma
  / (1 - gamma) g``.
- **Penalising the gradient norm** is the form in one piece with ``alpha = gamma / (1 - gamma)``:
  its gradient is ``(1 - alpha) g0 + alpha g``. The authors' code by default mixes ``g0 / ||g0||``
  with g instead.

References
----------
- Yun Yue, Jiadi Jiang, Zhiling Ye, Ning Gao, Yongchao Liu, Ke Zhang. *Sharpness-Aware Minimization
  Revisited: Weighted Sharpness as a Regularization Term.* KDD 2023.
- Yang Zhao, Hao Zhang, Xiuyuan Hu. *Penalizing Gradient Norm for Efficiently Improving
  Generalization in Deep Learning.* ICML 2022.
"""

from __future__ import annotations

from dataclasses import replace

from rsam_ref.algorithms.relatives.form import RHO, ApartTrace, Relative, Setting
from rsam_ref.algorithms.sam import LossAndGrad, Trace, Vector, sam_gradient
from rsam_ref.algorithms.settings import plain_numbers


@plain_numbers
def wsam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, rho: float, gamma: float = 0.9
) -> ApartTrace:
    """WSAM, decoupled: the base steps with g0, the sharpness' gradient goes apart.

    >>> import numpy as np
    >>> trace = wsam_gradient(lambda w: (w @ w / 2, w), np.array([3.0, 4.0]), rho=1.0, gamma=0.75)
    >>> print(trace.gradient.round(3), trace.apart.round(3))
    [3. 4.] [1.8 2.4]
    """
    check_gamma(gamma)
    found = sam_gradient(loss_and_grad, w, rho=rho)
    g0: Vector = found.ascent_gradient
    g = found.gradient
    return ApartTrace(
        loss=found.loss,
        ascent_gradient=g0,
        perturbation=found.perturbation,
        adversarial_loss=found.adversarial_loss,
        gradient=g0,
        apart=gamma / (1 - gamma) * (g - g0),  # the gradient of the weighted sharpness
    )


@plain_numbers
def coupled_wsam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, rho: float, gamma: float = 0.9
) -> Trace:
    """WSAM in one piece: (1 - 2 gamma) / (1 - gamma) g0 + gamma / (1 - gamma) g.

    >>> import numpy as np
    >>> bowl = lambda w: (w @ w / 2, w)
    >>> trace = coupled_wsam_gradient(bowl, np.array([3.0, 4.0]), rho=1.0, gamma=0.75)
    >>> print(trace.gradient.round(3))
    [4.8 6.4]
    """
    check_gamma(gamma)
    trace = sam_gradient(loss_and_grad, w, rho=rho)
    g0: Vector = trace.ascent_gradient
    g = trace.gradient
    mixed = (1 - 2 * gamma) / (1 - gamma) * g0 + gamma / (1 - gamma) * g
    return replace(trace, gradient=mixed)


def check_gamma(gamma: float) -> None:
    """Raise ValueError for a gamma outside of [0, 1)."""
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma weighs the sharpness and must lie in [0, 1), not {gamma}")


WSAM = Relative(
    name="wsam",
    title="WSAM",
    rule=wsam_gradient,
    update="eps as SAM; the base steps with g0, and w <- w - lr gamma / (1 - gamma) (g - g0)",
    gradients="2",
    source="Yue et al., KDD 2023",
    apart=True,
    settings={
        "rho": Setting(0.05, RHO),
        "gamma": Setting(0.9, "the weight of the sharpness", high=1, below=True),
    },
    is_sam="gamma = 1/2, around SGD without momentum, to rounding",
    packages="pytorch_optimizer 4.1.0 and zij 0.1.1: compute it; torchium 0.1.5: computes another",
    against_rsam="no draw; the sharpness' gradient goes past the base, with a weight",
)

COUPLED_WSAM = Relative(
    name="wsam-coupled",
    title="WSAM in one piece",
    rule=coupled_wsam_gradient,
    update="eps as SAM; the base steps with ((1 - 2 gamma) g0 + gamma g) / (1 - gamma)",
    gradients="2",
    source="Yue et al., KDD 2023",
    settings={
        "rho": Setting(0.05, RHO),
        "gamma": Setting(0.9, "the weight of the sharpness", high=1, below=True),
    },
    is_sam="gamma = 1/2, to rounding",
    packages="pytorch_optimizer 4.1.0 and zij 0.1.1, decouple=False: compute it",
    against_rsam="no draw; g0 and g are mixed",
)
