"""A constant that stands in the norm: beside it, under the root, in each tensor's own norm.

Its value is told by the step whose norm it changes most, and has to fit in all the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Vector = np.ndarray

ROUNDING, ROUNDING_SINGLE = 1e-10, 1e-6
"""How far a norm may be off by rounding, in float64 and in float32."""

FITS = 1e-3
"""A constant explains a norm when so small a share of what it changes is left."""


@dataclass(frozen=True)
class Place:
    """Where a constant stands. ``value`` gives it for a norm with it, ``norm`` the norm with it.

    Both take the norms of the tensors (n,) of one step first.
    """

    told: str
    value: Callable[[Vector, float], float]
    norm: Callable[[Vector, float], float]
    code: str = "ascent.epsilon-too-large"


def size(parts: Vector) -> float:
    return float(np.linalg.norm(parts))


def _value_in_each(parts: Vector, whole: float) -> float:
    """c of whole^2 = sum (part + c)^2."""
    total, count = float(parts.sum()), parts.size
    return (np.sqrt(total**2 + count * (whole**2 - size(parts) ** 2)) - total) / count


def _value_of_both(parts: Vector, whole: float) -> float:
    """c of whole = (size^2 + c)^0.5 + c."""
    half = whole + 0.5
    rest = whole**2 - size(parts) ** 2
    return rest / (half + np.sqrt(half**2 - rest))


PLACES = (
    Place("beside the norm", lambda p, m: m - size(p), lambda p, c: size(p) + c),
    Place(
        "under the root", lambda p, m: m**2 - size(p) ** 2, lambda p, c: np.hypot(size(p), c**0.5)
    ),
    Place("beside each tensor's norm", _value_in_each, lambda p, c: size(p + c)),
    Place(
        "under the root and beside it",
        _value_of_both,
        lambda p, c: np.hypot(size(p), c**0.5) + c,
    ),
    Place(
        "beside the squared norm",
        lambda p, m: m - size(p) ** 2,
        lambda p, c: size(p) ** 2 + c,
        "ascent.squared-norm",
    ),
    Place(
        "beside the sum of norms",
        lambda p, m: m - float(p.sum()),
        lambda p, c: float(p.sum()) + c,
        "ascent.sum-of-norms",
    ),
)


def constant_of(parts: list[Vector], wholes: Vector, single: bool) -> tuple[Place, float] | None:
    """Where a constant stands and what it is; None where none explains the norms.

    ``parts`` are the tensors' norms of every step, ``wholes`` what divided there.
    """
    rounding = ROUNDING_SINGLE if single else ROUNDING
    for place in PLACES:
        free = np.array([place.norm(p, 0.0) for p in parts])
        changed = np.abs(wholes / free - 1)
        if not np.isfinite(changed).all() or changed.max() < 10 * rounding:
            continue
        most = int(changed.argmax())
        constant = float(place.value(parts[most], float(wholes[most])))
        if not constant > 0:
            continue
        with_it = np.array([place.norm(p, constant) for p in parts])
        if np.abs(with_it / wholes - 1).max() < max(rounding, FITS * changed.min()):
            return place, constant
    return None
