"""Flatness under R-SAM's noise: filter-wise Gaussian draws D = sigma s z around w (noise.py)."""

from __future__ import annotations

from dataclasses import dataclass

from rsam_backends import Stream
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import Shapes, filter_noise
from rsam_ref.algorithms.sam import TINY, LossAndGrad, norm
from rsam_ref.sharpness.directions import Loss
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.hessian import Product, images


def average_sharpness(
    loss: Loss, w: Array, shapes: Shapes, *, sigma: float, draws: int = 10, stream: Stream
) -> Estimate:
    """E[L(w + D)] - L(w), the mean rise of the loss under noise, in units of the loss.

    Draws are used in pairs D and -D: the expectation is the same, and the slope at w, which says
    nothing about flatness, drops out of every pair. For a quadratic loss with Hessian H it is
    sigma^2 / 2 sum_i s_i^2 H_ii. Costs 2 draws + 1 losses.
    """
    _check_draws(draws)
    at_w = float(loss(w))
    rises = []
    for _ in range(draws):
        noise = filter_noise(w, shapes, sigma=sigma, stream=stream)
        rises.append((float(loss(w + noise)) + float(loss(w - noise))) / 2 - at_w)
    return Estimate.of(rises)


@dataclass(frozen=True, slots=True)
class Kinks:
    """The mean rise under noise beside its quadratic form, of the same draws."""

    rise: Estimate
    """E[L(w + D)] - L(w), as `average_sharpness` has it."""
    quadratic: Estimate
    """E[D . H D] / 2: what the Hessian at w says of it."""
    beyond: Estimate
    """Rise less quadratic form, draw by draw: what kinks and higher derivatives add."""


def kinks(
    loss: Loss,
    product: Product,
    w: Array,
    shapes: Shapes,
    *,
    sigma: float,
    draws: int = 10,
    stream: Stream,
) -> Kinks:
    """How much of the mean rise under noise the Hessian's ``product`` (`product_at`) explains.

    A network of ReLUs is smooth only between kinks, where no Hessian sees them. For a unit whose
    input is a, noise of standard deviation s in it raises the mean of relu(a) by s^2 / 2 times the
    density of a at 0, as soon as s is larger than the gaps between the samples' inputs: a rise in
    sigma^2, as the Hessian's own. So the quadratic form is right below those gaps alone. Costs
    2 draws + 1 losses and a product a draw.
    """
    _check_draws(draws)
    at_w = float(loss(w))
    rises, forms = [], []
    drawn = (filter_noise(w, shapes, sigma=sigma, stream=stream) for _ in range(draws))
    for noise, image in images(product, drawn):
        rises.append((float(loss(w + noise)) + float(loss(w - noise))) / 2 - at_w)
        forms.append(float(noise @ image) / 2)
    beyond = Estimate.of(rise - form for rise, form in zip(rises, forms))
    return Kinks(Estimate.of(rises), Estimate.of(forms), beyond)


def gradient_stability(
    loss_and_grad: LossAndGrad,
    w: Array,
    shapes: Shapes,
    *,
    sigma: float,
    draws: int = 10,
    stream: Stream,
) -> Estimate:
    """E[cos(grad L(w), grad L(w + D))]: 1 where noise does not turn it, 0 at right angles.

    This is R-SAM's motivation (Liu et al., NeurIPS 2022): where the gradient turns within a small
    distance, the one that SAM's ascent takes at w speaks for w alone. Costs draws + 1 gradients.
    """
    _check_draws(draws)
    g = loss_and_grad(w)[1]
    cosines = []
    for _ in range(draws):
        noise = filter_noise(w, shapes, sigma=sigma, stream=stream)
        cosines.append(cosine(g, loss_and_grad(w + noise)[1]))
    return Estimate.of(cosines)


def cosine(a: Array, b: Array) -> float:
    """The cosine of the angle between two vectors; 0 where one of them is 0."""
    return float(a @ b / (norm(a) * norm(b) + TINY))


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
