"""SAM's sharpness: the largest rise of the loss within a radius rho, by projected gradient ascent.

    max L(w + eps) - L(w)   over   ||eps|| <= rho

Not even for small networks can the maximum be proved, so it is looked for from several starts; what
is found is a lower bound of it. One start is eps = 0, and its first step is SAM's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsam_backends import Stream, normal_like
from rsam_backends.base import Array
from rsam_ref.algorithms.sam import TINY, LossAndGrad, norm
from rsam_ref.algorithms.settings import check_step
from rsam_ref.sharpness.estimate import Estimate

LONGEST = 4.0  # radii: beyond this a step's direction on the sphere hardly changes any more


@dataclass(frozen=True, slots=True)
class Ascent:
    """What projected ascent found."""

    rise: float
    """The largest L(w + eps) - L(w), in units of the loss."""
    perturbation: Array
    """The eps (P,) that it was found at."""
    histories: list[list[float]]
    """For every start the largest rise so far, at the start and after 1, 2, ... steps. A step
    costs one gradient: histories[0][k], from eps = 0, is what k gradients reach."""
    gradients: int
    """How many gradients all of it cost."""


def rho_sharpness(
    loss_and_grad: LossAndGrad,
    w: Array,
    *,
    rho: float,
    steps: int = 30,
    restarts: int = 3,
    stream: Stream,
    starts: Sequence[Array] = (),
) -> Ascent:
    """The largest rise of the loss within ``rho`` of w that projected gradient ascent finds.

    Parameters
    ----------
    rho:
        The radius, in units of the weights, over all weights together.
    steps:
        Steps from every start.
    restarts:
        Starts drawn at random from the sphere, besides eps = 0.
    starts:
        More starts eps (P,); longer ones are projected onto the ball.

    Raises ValueError for settings that make no sense, ArithmeticError where the loss at w is not
    finite. A perturbation whose loss is not finite is never a maximum.
    """
    check_step(rho=rho)
    if steps < 1 or restarts < 0:
        raise ValueError(f"steps >= 1 and restarts >= 0, not {steps} and {restarts}")
    loss = float(loss_and_grad(w)[0])
    if not math.isfinite(loss):
        raise ArithmeticError(f"the loss at the weights themselves is {loss}")
    points = [0 * w, *(into_ball(eps, rho) for eps in starts)]
    for _ in range(restarts):
        z = normal_like(w, stream)
        points.append(rho / (norm(z) + TINY) * z)
    climbs = [_climb(loss_and_grad, w, eps, rho, steps) for eps in points]
    histories = [[max(value - loss, 0.0) for value in values] for _, values in climbs]
    best = max(range(len(climbs)), key=lambda i: histories[i][-1])
    gradients = 1 + len(points) * (steps + 1)
    return Ascent(histories[best][-1], climbs[best][0], histories, gradients)


def m_sharpness(
    parts: Sequence[LossAndGrad],
    w: Array,
    *,
    rho: float,
    steps: int = 30,
    restarts: int = 0,
    stream: Stream,
) -> Estimate:
    """The mean over parts of the samples of each part's own largest rise within rho of w (P,).

    ``parts`` are the mean losses on m samples each. The smaller m, the larger it is, since every
    part has its own eps; with one part it is `rho_sharpness` (Foret, Kleiner, Mobahi and Neyshabur,
    ICLR 2021, section 4.1). The interval is over parts.
    """
    return Estimate.of(
        rho_sharpness(part, w, rho=rho, steps=steps, restarts=restarts, stream=stream).rise
        for part in parts
    )


def _climb(
    loss_and_grad: LossAndGrad, w: Array, eps: Array, rho: float, steps: int
) -> tuple[Array, list[float]]:
    """The highest point found from eps, and the losses on the way, none below the one before.

    A step goes along the gradient and is projected back onto the ball. One that does not climb is
    taken back, and the next is half as long.
    """
    length = rho
    value, g = _look(loss_and_grad, w + eps)
    values = [value]
    for _ in range(steps):
        trial = into_ball(eps + length / (norm(g) + TINY) * g, rho)
        trial_value, trial_g = _look(loss_and_grad, w + trial)
        if trial_value > value:
            eps, value, g = trial, trial_value, trial_g
            length = min(2 * length, LONGEST * rho)
        else:
            length /= 2
        values.append(value)
    return eps, values


def _look(loss_and_grad: LossAndGrad, point: Array) -> tuple[float, Array]:
    """Loss and gradient; a loss that is not finite counts as lower than all others."""
    loss, g = loss_and_grad(point)
    value = float(loss)
    return (value if math.isfinite(value) else -math.inf), g


def into_ball(eps: Array, rho: float) -> Array:
    """The point nearest to eps (P,) whose length is rho at most."""
    length = float(norm(eps))
    return eps if length <= rho else rho / length * eps
