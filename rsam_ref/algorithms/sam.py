"""SAM and R-SAM: the two update rules, as pure functions of flat vectors.

``loss_and_grad(w)`` gives the mean loss on one mini-batch at the weights w, one flat vector, and
its gradient. Nothing here changes w, and nothing here knows an array library: with ``+ * @ **``
alone the same lines run on NumPy, CuPy, PyTorch and JAX vectors.

Both rules ask for the gradient twice: once to look where the loss rises, once at the place they
looked at. The weights then move by that second gradient, from where they were. ``||.||`` is the
norm over all weights together, and ``TINY`` keeps a zero gradient from dividing zero by zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rsam_ref.algorithms.settings import (
    check_library,
    check_precision,
    check_step,
    climbs,
    plain_numbers,
)

Vector = Any  # a one-dimensional array of any library
LossAndGrad = Callable[[Vector], tuple[Any, Vector]]

TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Trace:
    """Every quantity of one step. What a method does not have is None."""

    loss: Any
    """The first pass's loss: at w; for R-SAM at w + noise."""
    gradient: Vector
    """g, what the base optimizer is given. It is as it was found: who clips, clips a copy."""
    noise: Vector | None = None
    """D, the random draw around w (R-SAM)."""
    ascent_gradient: Vector | None = None
    """g0, the first pass's gradient."""
    perturbation: Vector | None = None
    """eps, from w to where the second gradient is taken."""
    adversarial_loss: Any = None
    """The loss at w + eps."""


@plain_numbers
def sam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, rho: float, ascent_steps: int = 1
) -> Trace:
    """Sharpness-aware minimization (Foret, Kleiner, Mobahi, Neyshabur, ICLR 2021).

    ``rho`` is the radius of the ascent, in units of the weights. ``ascent_steps`` = k climbs in k
    steps of rho / k each and costs k + 1 gradients.

    >>> import numpy as np
    >>> trace = sam_gradient(lambda w: (w @ w / 2, w), np.array([3.0, 4.0]), rho=1.0)
    >>> print(trace.perturbation.round(3), trace.gradient.round(3))
    [0.6 0.8] [3.6 4.8]
    """
    check_step(rho=rho, ascent_steps=ascent_steps)
    radius = rho / ascent_steps
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    eps = ascent(radius, g0, w)  # eps = (rho / k) g0 / ||g0||
    for _ in range(ascent_steps - 1):  # k-step SAM: further up, from where the ascent is by now
        _, g = loss_and_grad(w + eps)
        eps = eps + ascent(radius, g, w)
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps): it moves w, from w
    return Trace(
        loss=loss,
        ascent_gradient=g0,
        perturbation=eps,
        adversarial_loss=adversarial_loss,
        gradient=g,
    )


@plain_numbers
def rsam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, noise: Vector, *, rho: float, lam: float = 2.0
) -> Trace:
    """Random sharpness-aware minimization (Liu, Mai, Cheng, Chen, Hsieh, You, NeurIPS 2022).

    ``noise`` is the draw D around w (see noise.py). The paper's reason for it: smoothed by random
    draws the loss is less rugged, so a gradient says better where it rises. ``lam`` weighs the
    gradient against the draw itself. The perturbation is measured from w, not from w + D.

    >>> import numpy as np
    >>> w, noise = np.array([3.0, 2.0]), np.array([0.0, 1.0])
    >>> trace = rsam_gradient(lambda w: (w @ w / 2, w), w, noise, rho=1.0, lam=1.0)
    >>> print(trace.ascent_gradient, trace.perturbation.round(3), trace.gradient.round(3))
    [3. 3.] [0.6 0.8] [3.6 2.8]
    """
    check_step(rho=rho, lam=lam)
    loss, g0 = loss_and_grad(w + noise)  # g0 = grad L(w + D)
    a = lam * g0 + noise  # a = lam g0 + D
    eps = ascent(rho, a, w)  # eps = rho a / ||a||
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps), not at w + D + eps
    return Trace(
        loss=loss,
        noise=noise,
        ascent_gradient=g0,
        perturbation=eps,
        adversarial_loss=adversarial_loss,
        gradient=g,
    )


def ascent(rho: float, v: Vector, w: Vector) -> Vector:
    """rho v / ||v||: from w so far along v. For rho = 0 it is 0, of an infinite v too."""
    check_library(w, v)
    return rho / (norm(v) + TINY) * v if climbs(rho) else 0 * w


def norm(v: Vector) -> Any:
    """The Euclidean length of a vector."""
    check_precision(v)
    return (v @ v) ** 0.5
