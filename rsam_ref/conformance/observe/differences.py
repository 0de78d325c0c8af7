"""A derivative along a direction, by differences of the fourth order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def derivative(
    function: Callable[[np.ndarray], np.ndarray | float], at: np.ndarray, along: np.ndarray
) -> np.ndarray:
    """How a function changes at a point (P,) along a direction (P,): of its values' shape."""
    size = np.linalg.norm(along)
    h = 2e-4 / size if size else 1.0

    def difference(times: int) -> np.ndarray:
        step = times * h * along
        return np.asarray(function(at + step)) - np.asarray(function(at - step))

    return np.asarray((8 * difference(1) - difference(2)) / (12 * h))
