"""The ground that a step is drawn on: the contours of a loss of two weights, on round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from rsam_backends import quiet, xp
from rsam_backends.base import Array
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.teaching.surfaces import Surface

GRID = 161
"""Points a side at which the loss is computed."""
LEVELS = 20
"""Contours at most."""
TICKS = 6
"""Ticks of an axis at most."""


@dataclass(frozen=True)
class Frame:
    """The square of weights that a picture shows."""

    centre: Array
    half: float
    """Half of its side."""


def frame_around(points: Sequence[Array]) -> Frame:
    """The square that shows all of the points (2,), with a margin.

    ValueError where one of them is not finite.
    """
    reach = xp.array(list(points))
    if not xp.isfinite(reach).all():
        raise ValueError("the step has left the range of numbers; there is nothing to draw")
    centre = (reach.min(0) + reach.max(0)) / 2
    return Frame(centre, float(xp.ptp(reach, axis=0).max() / 2 * 1.25 + 0.1))


def round_step(width: float, parts: int) -> float:
    """The smallest of 1, 2, 5, 10, ... by powers of ten that divides a width in so few parts.

    >>> round_step(1.7, 6), round_step(100, 6), round_step(0.3, 20)
    (0.5, 20.0, 0.02)
    """
    least = width / parts
    power = 10.0 ** math.floor(math.log10(least))
    return float(f"{next(m * power for m in (1, 2, 5, 10) if m * power >= least * 0.999999):.3g}")


def draw_ground(
    axes: Axes, surface: Surface, frame: Frame, *, size: float, bar: Axes | None = None
) -> None:
    """The contours of a surface in a frame; letters of ``size`` points, heights in ``bar``."""
    x, y = (xp.linspace(c - frame.half, c + frame.half, GRID) for c in frame.centre)
    with no_grad(), quiet():
        heights = surface(Tensor(xp.stack(xp.meshgrid(x, y), axis=-1))).data
    low, high = float(heights.min()), float(heights.max())
    levels = _levels(low, high)
    filled = axes.contourf(x, y, heights, levels=levels, cmap="Greys", alpha=0.5)
    lines: dict[str, Any] = {"colors": "white", "linewidths": size / 25, "linestyles": "solid"}
    axes.contour(x, y, heights, levels=levels, **lines)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_aspect("equal")
    axes.set_xlabel("first weight", size=size)
    axes.set_ylabel("second weight", size=size)
    axes.tick_params(labelsize=0.75 * size)
    apart = round_step(2 * frame.half, TICKS)
    axes.xaxis.set_major_locator(MultipleLocator(apart))
    axes.yaxis.set_major_locator(MultipleLocator(apart))
    axes.ticklabel_format(scilimits=(-3, 4))
    if bar is not None:
        axes.figure.colorbar(filled, cax=bar)
        bar.tick_params(labelsize=0.75 * size)
        bar.yaxis.set_major_locator(MultipleLocator(round_step(levels[-1] - levels[0], TICKS)))
        bar.set_ylabel("loss", size=size)


def _levels(low: float, high: float) -> list[float]:
    """Round heights from below the lowest to above the highest."""
    step = round_step(max(high - low, 1e-9 * abs(low), 1e-12), LEVELS)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]
