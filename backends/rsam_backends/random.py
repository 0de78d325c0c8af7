"""Random draws: made on the host, given to the device, so that they are the same everywhere.

A GPU's own generators give other numbers on another model of GPU. The draw costs less than one
per cent of a convolutional network's step, so it is made by NumPy and transferred. Many normal
draws are shared out among threads, whose number changes none of them.

Up to `FEW` normal numbers, and those in float64, are NumPy's own, by its ziggurat: the same on
every processor, and for everyone who asks ``numpy.random.default_rng``. More of them at once, the
noise of one step on a larger network, are Box and Muller's, in a third of the time (docs/speed.md
has the measurement). Those have other last bits on a processor with other instructions, as the
gradient has.
"""

from __future__ import annotations

import operator
from functools import cached_property
from typing import Any

import numpy as np

from rsam_backends.base import Array
from rsam_backends.box_muller import FEW, box_muller
from rsam_backends.switch import to_device
from rsam_backends.threads import share_out

BLOCK = 1 << 16
"""Normal draws by one generator: further ones are made by others, at the same time."""

METHOD = f"NumPy's ziggurat up to {FEW} numbers, Box-Muller beyond"
"""How normal numbers are made, for runs to keep."""


class Stream:
    """A stream of random numbers, fixed by its key: names and whole numbers.

    ``Stream("noise", seed, step)`` gives the same numbers whenever and on whichever backend it is
    made, so a step's draws need no state to be resumed. Streams of different keys are independent.
    """

    def __init__(self, *key: str | int) -> None:
        parts = tuple(part if isinstance(part, str) else operator.index(part) for part in key)
        if wrong := [part for part in parts if not isinstance(part, str) and part < 0]:
            raise ValueError(f"a seed must be a whole number >= 0, not {wrong[0]}")
        # No two keys are written alike, so no two have the same number.
        self._number = int.from_bytes(repr(parts).encode(), "little")

    @cached_property
    def _seeds(self) -> np.random.SeedSequence:
        return np.random.SeedSequence(self._number)  # 5 us; many a stream is never drawn from

    @cached_property
    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(self._seeds)

    def normal(self, shape: int | tuple[int, ...], dtype: Any = "float32") -> Array:
        """Standard normal draws, N(0, 1), on the device."""
        drawn = np.empty(shape, dtype)
        run = drawn.reshape(-1)
        blocks = [run[start : start + BLOCK] for start in range(0, max(1, run.size), BLOCK)]
        if run.size <= FEW or run.dtype != np.float32:
            generators = [self._generator, *self._generator.spawn(len(blocks) - 1)]

            def draw(i: int) -> None:
                generators[i].standard_normal(dtype=run.dtype.type, out=blocks[i])
        else:
            seeds = self._seeds.spawn(len(blocks))

            def draw(i: int) -> None:
                box_muller(seeds[i], blocks[i])

        share_out(draw, range(len(blocks)))
        return to_device(drawn)

    def uniform(
        self, shape: int | tuple[int, ...], low: float, high: float, dtype: Any = "float32"
    ) -> Array:
        """Uniform draws between low and high, on the device."""
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
