"""How much of SAM's inner maximum one step reaches.

SAM and R-SAM both stand in for  max L(w + eps) - L(w)  over  ||eps|| <= rho,  which would take many
gradients, by one ascent step. R-SAM's case (Liu et al., NeurIPS 2022) is that the gradient at w can
be a poor guide to that maximum, and the gradient at smoothed weights a better one. This asks the
question itself: with equal radius, and with the number of ascent gradients said, which share of the
rise that long projected ascent finds does each of them reach?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rsam_backends import Stream
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import Shapes, filter_noise
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, norm, rsam_gradient, sam_gradient
from rsam_ref.algorithms.variants import gradient_rsam_gradient
from rsam_ref.sharpness.ascent import Ascent, rho_sharpness

METHODS = {
    "sam": "SAM",
    "ascent": "projected ascent",
    "rsam": "R-SAM",
    "smoothed": "gradient at w + D",
    "random": "draw D alone",
}
"""What is compared, and its name: SAM with k gradients takes k steps of rho / k."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The rise of the loss that a method reaches on the sphere of radius rho."""

    method: str
    """A name in `METHODS`."""
    sigma: float | None
    """The noise scale, of the methods that draw."""
    gradients: int
    """How many ascent gradients it takes; the descent gradient after them is not counted."""
    rise: float
    """L(w + eps) - L(w), the mean over draws; below 0 where the loss falls."""


@dataclass(frozen=True, slots=True)
class InnerMaximum:
    """The largest rise that was found, and what each method reaches of it."""

    ascent: Ascent
    reached: list[Reached]

    @property
    def rise(self) -> float:
        """The largest L(w + eps) - L(w) found, in units of the loss: a lower bound of the true."""
        return self.ascent.rise

    def share(self, reached: Reached) -> float:
        """The rise a method reaches as a share of the largest; nan where nothing rises."""
        return reached.rise / self.rise if self.rise > 0 else float("nan")


def inner_maximum(
    loss_and_grad: LossAndGrad,
    w: Array,
    shapes: Shapes,
    *,
    rho: float,
    sigmas: Sequence[float] = (1e-3,),
    lam: float = 2.0,
    ascent_steps: Sequence[int] = (1, 2, 5, 10),
    draws: int = 5,
    steps: int = 50,
    restarts: int = 3,
    stream: Stream,
) -> InnerMaximum:
    """The share of the inner maximum that SAM, k-step SAM and R-SAM reach at w, radius ``rho``.

    ``loss_and_grad`` is a mini-batch's. For every k in ``ascent_steps`` SAM takes k steps of
    rho / k (as `sam_gradient` does), and projected ascent takes its first k steps from w. For every
    sigma in ``sigmas`` R-SAM (with ``lam``), the gradient at w + D alone, and D alone are the mean
    over ``draws``.

    The maximum is that of `rho_sharpness`, started from 0, from the best point of the methods above
    (so that no share exceeds 1) and from ``restarts`` random points, ``steps`` steps each.
    """
    if not ascent_steps or min(ascent_steps) < 1 or max(ascent_steps) > steps:
        raise ValueError(f"ascent_steps lie between 1 and steps = {steps}, not {ascent_steps}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    at_w = float(loss_and_grad(w)[0])
    best: tuple[float, Array] = (float("-inf"), 0 * w)
    reached = []

    def rise(trace: Trace) -> float:
        nonlocal best
        found = float(trace.adversarial_loss) - at_w
        if trace.perturbation is not None and found > best[0]:
            best = (found, trace.perturbation)
        return found

    for k in ascent_steps:
        trace = sam_gradient(loss_and_grad, w, rho=rho, ascent_steps=k)
        reached.append(Reached("sam", None, k, rise(trace)))
    for sigma in sigmas:
        rises: dict[str, float] = {"rsam": 0.0, "smoothed": 0.0, "random": 0.0}
        for _ in range(draws):
            noise = filter_noise(w, shapes, sigma=sigma, stream=stream)
            traces = {
                "rsam": rsam_gradient(loss_and_grad, w, noise, rho=rho, lam=lam),
                "smoothed": gradient_rsam_gradient(loss_and_grad, w, noise, rho=rho),
                "random": _random(loss_and_grad, w, noise, rho),
            }
            for method, trace in traces.items():
                rises[method] += rise(trace) / draws
        reached += [
            Reached(method, sigma, int(method != "random"), rises[method]) for method in rises
        ]
    ascent = rho_sharpness(
        loss_and_grad,
        w,
        rho=rho,
        steps=steps,
        restarts=restarts,
        stream=stream,
        starts=[best[1]],
    )
    reached += [Reached("ascent", None, k, ascent.histories[0][k]) for k in ascent_steps]
    return InnerMaximum(ascent, reached)


def _random(loss_and_grad: LossAndGrad, w: Array, noise: Array, rho: float) -> Trace:
    eps = rho / (norm(noise) + TINY) * noise
    loss, g = loss_and_grad(w + eps)
    return Trace(loss=loss, noise=noise, perturbation=eps, adversarial_loss=loss, gradient=g)
