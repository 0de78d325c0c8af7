"""m-SAM: each part of the mini-batch is perturbed by its own gradient.

The mini-batch is taken in parts of m samples. Each part climbs by itself and gives a gradient where
it arrived; the weights move by the mean of those. What is made small is known as m-sharpness. In
the papers smaller parts generalised better. SAM becomes this method on several workers whose first
gradients are not averaged.

Implementation details
----------------------
- **Only the second gradients are averaged.** Each part has a radius rho of its own.
- **One part is SAM,** bit for bit.
- **A part's share of the mean scales its loss, not its ascent:** SAM does not see the loss' scale.
- **The perturbation that the trace shows is the mean** of the parts'; no gradient is taken there.
- **Batch norm sees the parts,** one after the other.
- **The parts are neighbouring samples,** as many as ``accumulate`` says in a recipe; a larger part
  counts for more in the mean. The loss that is told is the mean of the first losses.

Other readings
--------------
- **R-SAM's public code** does the same on many devices: noise and first gradient are each device's
  own. For SAM, ASAM and R-SAM on several workers it is ``perturbation = "worker"`` in a recipe,
  with ``m`` samples each.

References
----------
- Pierre Foret, Ariel Kleiner, Hossein Mobahi, Behnam Neyshabur. *Sharpness-Aware Minimization for
  Efficiently Improving Generalization.* ICLR 2021 (section 4.1).
- Maksym Andriushchenko, Nicolas Flammarion. *Towards Understanding Sharpness-Aware Minimization.*
  ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting
from rsam_ref.algorithms.sam import LossAndGrad, Trace, Vector, sam_gradient
from rsam_ref.algorithms.settings import plain_numbers


@plain_numbers
def m_sam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, parts: Sequence[LossAndGrad], rho: float
) -> Trace:
    """m-SAM: the sum of the parts' gradients at w + eps_i, of which each is its share of the mean.

    ``loss_and_grad`` is the sum of the ``parts``, and is not called.

    >>> import numpy as np
    >>> parts = [lambda w: (w[0], np.array([0.5, 0.0])), lambda w: (w @ w / 2, w)]
    >>> trace = m_sam_gradient(None, np.array([3.0, 4.0]), parts=parts, rho=1.0)
    >>> print(trace.gradient.round(3), trace.perturbation.round(3))
    [4.1 4.8] [0.8 0.4]
    """
    first, *others = [sam_gradient(part, w, rho=rho) for part in parts]
    total = {
        name: sum((getattr(trace, name) for trace in others), getattr(first, name))
        for name in ("loss", "gradient", "ascent_gradient", "perturbation", "adversarial_loss")
    }
    total["perturbation"] = total["perturbation"] / len(parts)
    return Trace(**total)


M_SAM = Relative(
    name="m-sam",
    title="m-SAM",
    rule=m_sam_gradient,
    update="eps_i as SAM on each part of the mini-batch; g = the mean of grad L_i(w + eps_i)",
    gradients="2",
    source="Foret et al., ICLR 2021; Andriushchenko and Flammarion, ICML 2022",
    settings={"rho": Setting(0.05, RHO)},
    needs=("parts",),
    packages="SAM on several workers whose first gradients are not averaged",
    is_sam="one part",
    against_rsam="no draw; each part of the mini-batch has an ascent of its own",
)
