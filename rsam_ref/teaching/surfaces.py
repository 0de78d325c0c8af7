"""Losses of two weights, to draw steps on. Each is a sum of parts; all are made for one start.

A function here takes weights w (..., 2) and gives the losses (...).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rsam_ref.autograd import ops
from rsam_ref.autograd.tensor import Tensor

START = (0.3, 0.8)
"""Where a step starts if nothing else is said, on every surface."""


@dataclass(frozen=True)
class Surface:
    """A loss of two weights, w (..., 2) to (...): the sum of its parts."""

    name: str
    told: str
    parts: tuple[Callable[[Tensor], Tensor], ...]

    def __call__(self, w: Tensor) -> Tensor:
        """The losses at the weights w."""
        first, *others = (part(w) for part in self.parts)
        for other in others:
            first = first + other
        return first


def bowl(w: Tensor) -> Tensor:
    """A smooth valley whose floor is bent."""
    x, y = w[..., 0], w[..., 1]
    bend = y - 0.5 * x * x
    return 0.15 * (x - 1) ** 2 + 0.6 * bend**2


def ripple(w: Tensor) -> Tensor:
    """Ripples: they turn the gradient within a short distance."""
    return 0.35 * (ops.tanh(3 * (w[..., 0] - 0.6)) * ops.tanh(3 * (w[..., 1] - 0.7)))


def floor(w: Tensor) -> Tensor:
    """The floor of a straight valley: it falls slowly along the first weight."""
    return 0.15 * (w[..., 0] - 1) ** 2


def narrow_walls(w: Tensor) -> Tensor:
    """Steep walls, of curvature 4."""
    return 2 * (w[..., 1] - 0.6) ** 2


def wide_walls(w: Tensor) -> Tensor:
    """Gentle walls, of curvature 0.6."""
    return 0.3 * (w[..., 1] - 0.6) ** 2


def crest(w: Tensor) -> Tensor:
    """A ridge along the first weight; beyond it the loss falls again."""
    return 0.8 * ops.exp(-12 * (w[..., 1] - 1) ** 2)


def rising(w: Tensor) -> Tensor:
    """The way up from a saddle."""
    return 0.6 * (w[..., 1] - 0.5) ** 2


def falling(w: Tensor) -> Tensor:
    """The way down from it."""
    return -0.3 * (w[..., 0] - 0.2) ** 2


SURFACES = {
    surface.name: surface
    for surface in (
        Surface("ripples", "a bent valley with ripples", (bowl, ripple)),
        Surface("narrow", "a narrow valley", (floor, narrow_walls)),
        Surface("wide", "a wide valley", (floor, wide_walls)),
        Surface("ridge", "a ridge between two slopes", (floor, crest)),
        Surface("saddle", "a saddle", (rising, falling)),
    )
}

valley = SURFACES["ripples"]
"""The ripples mislead one ascent step from w: there the draw around w matters."""
