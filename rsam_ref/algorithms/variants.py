"""Relatives of SAM and R-SAM that go by similar names, in the same form, to compare with.

None of these is the default anywhere. `sam.py` has SAM and R-SAM themselves.
"""

from __future__ import annotations

from typing import Any

from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, ascent, norm
from rsam_ref.algorithms.settings import check_step, is_traced, plain_numbers


@plain_numbers
def asam_gradient(loss_and_grad: LossAndGrad, w: Vector, *, rho: float, eta: float = 0.01) -> Trace:
    """Adaptive SAM (Kwon, Kim, Park, Choi, ICML 2021): the radius is relative to ``|w|``.

    ``eps = rho T^2 g0 / ||T g0||`` with ``T = |w| + eta``. It does not change when a layer is
    scaled up and the next one down. Its radii are larger than SAM's (the paper's are about ten
    times as large).

    >>> import numpy as np
    >>> trace = asam_gradient(lambda w: (w @ w / 2, w), np.array([3.0, 4.0]), rho=1.0, eta=0.0)
    >>> print(trace.perturbation.round(2))
    [1.47 3.49]
    """
    check_step(rho=rho)
    check_eta(eta)
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    scale = abs(w) + eta  # T, a diagonal matrix
    scaled = scale * g0  # T g0
    eps = rho / (norm(scaled) + TINY) * (scale * scaled)  # eps = rho T^2 g0 / ||T g0||
    return _descent(loss_and_grad, w, eps, loss=loss, ascent_gradient=g0)


@plain_numbers
def noise_gradient(loss_and_grad: LossAndGrad, w: Vector, noise: Vector) -> Trace:
    """Random smoothing alone: the gradient at w + D, no ascent. One gradient a step."""
    loss, g = loss_and_grad(w + noise)  # g = grad L(w + D)
    return Trace(loss=loss, noise=noise, gradient=g)


@plain_numbers
def stacked_rsam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, noise: Vector, *, rho: float
) -> Trace:
    """`stacked`: the noise stays in both passes, g at w + D + rho g0 / ||g0||.

    The trace's perturbation is the whole way from w, so it includes the noise.
    """
    check_step(rho=rho)
    loss, g0 = loss_and_grad(w + noise)  # g0 = grad L(w + D)
    eps = noise + ascent(rho, g0, w)  # eps = D + rho g0 / ||g0||
    return _descent(loss_and_grad, w, eps, loss=loss, noise=noise, ascent_gradient=g0)


@plain_numbers
def gradient_rsam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, noise: Vector, *, rho: float
) -> Trace:
    """`gradient`: the noise is left out of the direction, eps = rho g0 / ||g0||, g0 at w + D.

    This is R-SAM's limit for lam -> infinity.
    """
    check_step(rho=rho)
    loss, g0 = loss_and_grad(w + noise)  # g0 = grad L(w + D)
    eps = ascent(rho, g0, w)  # eps = rho g0 / ||g0||
    return _descent(loss_and_grad, w, eps, loss=loss, noise=noise, ascent_gradient=g0)


def _descent(loss_and_grad: LossAndGrad, w: Vector, eps: Vector, **found: Any) -> Trace:
    """The end of every rule: g = grad L(w + eps), with what the ascent found."""
    adversarial_loss, g = loss_and_grad(w + eps)
    return Trace(perturbation=eps, adversarial_loss=adversarial_loss, gradient=g, **found)


def check_eta(eta: float) -> None:
    """Raise ValueError for an eta below 0 or not finite; one that JAX traces passes."""
    if not is_traced(eta) and not 0 <= eta < float("inf"):
        raise ValueError(f"eta keeps weights of 0 movable; it must be finite and >= 0, not {eta}")
