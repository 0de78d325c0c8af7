"""Relatives of SAM and R-SAM that go by similar names, in the same form, to compare with.

None of these is the default anywhere. `sam.py` has SAM and R-SAM themselves.
"""

from __future__ import annotations

from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, check_step, norm


def asam_gradient(loss_and_grad: LossAndGrad, w: Vector, *, rho: float, eta: float = 0.01) -> Trace:
    """Adaptive SAM (Kwon, Kim, Park, Choi, ICML 2021): the radius is relative to ``|w|``.

    ``eps = rho T^2 g0 / ||T g0||`` with ``T = |w| + eta``. It does not change when a layer is
    scaled up and the next one down. Its radii are larger than SAM's (the paper's are about ten
    times as large).
    """
    check_step(rho=rho)
    check_eta(eta)
    loss, ascent_gradient = loss_and_grad(w)
    scale = abs(w) + eta
    scaled = scale * ascent_gradient
    perturbation = rho / (norm(scaled) + TINY) * (scale * scaled)
    adversarial_loss, gradient = loss_and_grad(w + perturbation)
    return Trace(loss, gradient, None, ascent_gradient, perturbation, adversarial_loss)


def noise_gradient(loss_and_grad: LossAndGrad, w: Vector, noise: Vector) -> Trace:
    """Random smoothing alone: the gradient at w + D, no ascent. One gradient a step."""
    loss, gradient = loss_and_grad(w + noise)
    return Trace(loss, gradient, noise)


def stacked_rsam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, noise: Vector, *, rho: float
) -> Trace:
    """`stacked`: the noise stays in both passes, g at w + D + rho g0 / ||g0||.

    The trace's perturbation is the whole way from w, so it includes the noise.
    """
    check_step(rho=rho)
    loss, ascent_gradient = loss_and_grad(w + noise)
    perturbation = noise + rho / (norm(ascent_gradient) + TINY) * ascent_gradient
    adversarial_loss, gradient = loss_and_grad(w + perturbation)
    return Trace(loss, gradient, noise, ascent_gradient, perturbation, adversarial_loss)


def gradient_rsam_gradient(
    loss_and_grad: LossAndGrad, w: Vector, noise: Vector, *, rho: float
) -> Trace:
    """`gradient`: the noise is left out of the direction, eps = rho g0 / ||g0||, g0 at w + D.

    This is R-SAM's limit for lam -> infinity.
    """
    check_step(rho=rho)
    loss, ascent_gradient = loss_and_grad(w + noise)
    perturbation = rho / (norm(ascent_gradient) + TINY) * ascent_gradient
    adversarial_loss, gradient = loss_and_grad(w + perturbation)
    return Trace(loss, gradient, noise, ascent_gradient, perturbation, adversarial_loss)


def check_eta(eta: float) -> None:
    """Raise ValueError for an eta below 0 or not finite."""
    if not 0 <= eta < float("inf"):
        raise ValueError(f"eta keeps weights of 0 movable; it must be finite and >= 0, not {eta}")
