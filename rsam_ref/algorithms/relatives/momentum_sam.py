"""Momentum SAM: the perturbation follows the base optimizer's velocity, and costs no gradient.

The velocity v of SGD is a decaying sum of past gradients. Momentum SAM goes a radius rho against
it, to where the next moves will lead, and takes its only gradient there.

Implementation details
----------------------
- **It looks ahead, not up:** eps = -rho v / ||v||, as Nesterov's momentum does but by a fixed
  length. With v accumulating gradients, the minus is deliberate.
- **v is the base's, as the last step left it.** Before the first step it is 0, and so is eps.
- **The loss that is told is the one at w + eps:** none is taken at w.
- **The base is SGD with momentum.** Weight decay acts at w, as with every rule here; v has it
  inside.
- **Weights between steps, in tests and in checkpoints are w,** not the perturbed ones.

Other readings
--------------
- **The authors' code keeps the perturbed weights** between steps; with SGD it lets weight decay act
  there.
- **With AdamW** the authors' code takes the first moment, not brought to its scale, for v. It is
  not here.
- **Upwards,** eps = +rho v / ||v||, is another method.

References
----------
- Marlon Becker, Frederick Altrock, Benjamin Risse. *Momentum-SAM: Sharpness Aware Minimization
  without Computational Overhead.* 2024, arXiv 2401.12033.
"""

from __future__ import annotations

from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, norm
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def momentum_sam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, velocity: Vector, rho: float
) -> Trace:
    """Momentum SAM: g = grad L(w - rho v / ||v||), the only gradient.

    >>> import numpy as np
    >>> w, v = np.array([3.0, 4.0]), np.array([0.0, 2.0])
    >>> trace = momentum_sam_gradient(lambda w: (w @ w / 2, w), w, velocity=v, rho=1.0)
    >>> print(trace.perturbation.round(3), trace.gradient.round(3))
    [-0. -1.] [3. 3.]
    """
    check_step(rho=rho)
    eps = -rho / (norm(velocity) + TINY) * velocity  # eps = -rho v / ||v||
    loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    return Trace(loss=loss, perturbation=eps, gradient=g)


MOMENTUM_SAM = Relative(
    name="momentum-sam",
    title="Momentum SAM",
    rule=momentum_sam_gradient,
    update="eps = -rho v / ||v||, v the base's velocity; g = grad L(w + eps)",
    gradients="1",
    source="Becker, Altrock and Risse, 2024",
    settings={"rho": Setting(0.3, RHO)},
    needs=("velocity",),
    packages="none",
    against_rsam="no draw and no ascent of its own: it looks where the velocity leads",
)
