"""Random draws: made on the host, given to the device, so that they are the same everywhere.

A GPU's own generators give other numbers on another model of GPU. The draw costs less than one
per cent of a convolutional network's step, so it is made by NumPy and transferred.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_backends.base import Array
from rsam_backends.switch import to_device


class Stream:
    """A stream of random numbers, fixed by its key: whole numbers such as ``Stream(seed, step)``.

    Two streams of the same key give the same numbers, on every backend; streams whose keys differ
    are independent. A step's draws can so be named by its number, and need no state to resume.
    """

    def __init__(self, *key: int) -> None:
        if any(part < 0 for part in key):
            raise ValueError(f"a random stream's key is made of whole numbers >= 0, not {key}")
        self._generator = np.random.default_rng(key)

    def normal(self, shape: int | tuple[int, ...], dtype: Any = "float32") -> Array:
        """Standard normal draws, N(0, 1), on the device."""
        return to_device(self._generator.standard_normal(shape, dtype=np.dtype(dtype).type))

    def uniform(
        self, shape: int | tuple[int, ...], low: float, high: float, dtype: Any = "float32"
    ) -> Array:
        """Uniform draws from [low, high), on the device."""
        unit = self._generator.random(shape, dtype=np.dtype(dtype).type)
        return to_device(unit * np.dtype(dtype).type(high - low) + np.dtype(dtype).type(low))

    def keep_mask(self, shape: tuple[int, ...], keep: float, dtype: Any = "float32") -> Array:
        """1 with probability ``keep``, else 0, on the device."""
        drawn = self._generator.random(shape, dtype=np.float32) < keep
        return to_device(drawn.astype(dtype))

    def permutation(self, n: int) -> np.ndarray:
        """The numbers 0 .. n-1 in random order, on the host (an order of samples, say)."""
        return self._generator.permutation(n)

    def integers(self, low: int, high: int, shape: int | tuple[int, ...]) -> np.ndarray:
        """Whole numbers from low .. high-1, on the host."""
        return self._generator.integers(low, high, shape)
