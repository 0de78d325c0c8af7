"""Random weight perturbation: the gradient at a random draw around the weights, no ascent.

It is R-SAM's nearest neighbour: the same draw, filter by filter, and no ascent from it. On average
it minimises the smoothed loss. Three of the published forms are here: the draw alone, its gradient
mixed with the one at w, and a draw that shrinks where gradients have been large.

Implementation details
----------------------
- **The draw is R-SAM's:** D = sigma s z, s the norm of each filter (a row of a matrix, an output
  channel of a kernel, a bias or norm scale as a whole); z as long as the filter has weights, so
  ||D_f|| is about sigma sqrt(n_f) ||w_f||.
- **rwp is noise alone,** what `NoiseOnly` is here: one gradient a step.
- **m-rwp mixes it with the gradient at w,** by lam. lam = 1 is rwp, lam = 0 the base optimizer.
- **arwp divides the draw by sqrt(1 + eta F).** h is a decaying sum of squared gradients, without
  the factor 1 - beta, and begins as 0. F is the sum of h over each filter of a matrix or kernel;
  for biases and norm scales it is h itself, weight by weight, although their s is one for all. eta
  = 0 is rwp.
- **The loss that is told** is the one at w + D; for m-rwp the one at w, and its draw is told as the
  perturbation. Batch norm's statistics move in that pass.
- **h is a checkpoint's state** (arwp).

Other readings
--------------
- **Two mini-batches for m-rwp,** one for each gradient, as the authors have it. Here both are taken
  on the same one, as with every rule here.
- **The mixture with the shrinking draw** (m-ARWP). It is not here.
- **The ball:** sigma z / ||z|| over all weights; `RSAM(variant="ball")` draws so.

References
----------
- Tao Li, Weihao Yan, Zehao Lei, Yingwen Wu, Kun Fang, Ming Yang, Xiaolin Huang. *Efficient
  Generalization Improvement Guided by Random Weight Perturbation.* 2022, arXiv 2211.11489.
- Tao Li, Qinghua Tao, Weihao Yan, Yingwen Wu, Zehao Lei, Kun Fang, Mingzhen He, Xiaolin Huang.
  *Revisiting Random Weight Perturbation for Efficiently Improving Generalization.* TMLR 2024.
"""

from __future__ import annotations

from collections.abc import Callable

from rsam_ref.algorithms.relatives.form import Relative, Setting, State
from rsam_ref.algorithms.sam import LossAndGrad, Trace, Vector
from rsam_ref.algorithms.settings import plain_numbers


@plain_numbers
def rwp_gradient(loss_and_grad: LossAndGrad, w: Vector, *, noise: Vector) -> Trace:
    """RWP: g = grad L(w + D).

    >>> import numpy as np
    >>> w, noise = np.array([3.0, 4.0]), np.array([0.0, 1.0])
    >>> print(rwp_gradient(lambda w: (w @ w / 2, w), w, noise=noise).gradient)
    [3. 5.]
    """
    loss, g = loss_and_grad(w + noise)  # g = grad L(w + D)
    return Trace(loss=loss, noise=noise, gradient=g)


@plain_numbers
def mixed_rwp_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, noise: Vector, lam: float = 0.5
) -> Trace:
    """m-RWP: lam grad L(w + D) + (1 - lam) grad L(w). The loss is that at w.

    >>> import numpy as np
    >>> w, noise = np.array([3.0, 4.0]), np.array([0.0, 1.0])
    >>> print(mixed_rwp_gradient(lambda w: (w @ w / 2, w), w, noise=noise).gradient)
    [3.  4.5]
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam is the noisy gradient's share and lies in [0, 1], not {lam}")
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    adversarial_loss, g = loss_and_grad(w + noise)  # g = grad L(w + D)
    mixed = lam * g + (1 - lam) * g0
    return Trace(loss, mixed, None, g0, noise, adversarial_loss)


@plain_numbers
def adaptive_rwp_gradient(
    loss_and_grad: LossAndGrad,
    w: Vector,
    *,
    state: State,
    noise: Vector,
    filter_sum: Callable[[Vector], Vector],
    eta: float = 0.1,
    beta: float = 0.99,
) -> tuple[Trace, State]:
    """ARWP: the draw divided by sqrt(1 + eta F), F the ``filter_sum`` of h at every weight.

    >>> import numpy as np
    >>> w, noise, state = np.array([3.0, 4.0]), np.array([0.0, 1.0]), {"h": np.array([0.0, 3.0])}
    >>> trace, state = adaptive_rwp_gradient(
    ...     lambda w: (w @ w / 2, w), w, state=state, noise=noise, filter_sum=lambda h: h, eta=1.0
    ... )
    >>> print(trace.noise, trace.gradient)
    [0.  0.5] [3.  4.5]
    """
    h = state.get("h", 0 * w)
    noise = noise / (1 + eta * filter_sum(h)) ** 0.5  # D / sqrt(1 + eta F)
    loss, g = loss_and_grad(w + noise)  # g = grad L(w + D)
    return Trace(loss=loss, noise=noise, gradient=g), {"h": beta * h + g * g}


RWP = Relative(
    name="rwp",
    title="RWP",
    rule=rwp_gradient,
    update="g = grad L(w + D), D = sigma s z",
    gradients="1",
    source="Li et al., 2022",
    settings={"sigma": Setting(0.01, "the noise scale, in units of each filter's norm")},
    needs=("noise",),
    packages="none",
    against_rsam="the same draw, and no ascent",
)

MIXED_RWP = Relative(
    name="m-rwp",
    title="m-RWP",
    rule=mixed_rwp_gradient,
    update="the base steps with lam grad L(w + D) + (1 - lam) grad L(w), D = sigma s z",
    gradients="2",
    source="Li et al., 2022",
    settings={
        "sigma": Setting(0.01, "the noise scale, in units of each filter's norm"),
        "lam": Setting(0.5, "the noisy gradient's share", high=1),
    },
    needs=("noise",),
    packages="none",
    against_rsam="the same draw, and no ascent: its gradient is mixed with that at w",
)

ADAPTIVE_RWP = Relative(
    name="arwp",
    title="ARWP",
    rule=adaptive_rwp_gradient,
    update="g = grad L(w + D), D = sigma s z / sqrt(1 + eta F), F sums of h; h <- beta h + g^2",
    gradients="1",
    source="Li et al., TMLR 2024",
    settings={
        "sigma": Setting(0.01, "the noise scale, in units of each filter's norm"),
        "eta": Setting(0.1, "how much past gradients shrink the draw"),
        "beta": Setting(0.99, "the share of h that is kept", high=1),
    },
    needs=("state", "noise", "filter_sum"),
    keeps="h (P,)",
    packages="none",
    against_rsam="a draw that shrinks where gradients have been large, and no ascent",
)
