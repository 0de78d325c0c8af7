"""The memory of a step, measured on a few samples and continued to more."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

from rsam_backends import current_backend
from rsam_ref.algorithms.optimizer import Optimizer
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import objective
from rsam_ref.training.profiling import random_batch

SAMPLES = (16, 32)
"""The peak is a straight line in the samples from there on: fewer are in less than a full block."""

FEW = (2, 4)
"""For models of which 32 samples would take long."""

LARGE = 2e9  # bytes of a step


@dataclass(frozen=True)
class Memory:
    """Bytes in use at a step's peak, the weights among them: ``fixed``, and ``each`` sample's."""

    fixed: float
    each: float

    def of(self, batch: int) -> float:
        """Of a mini-batch of so many samples."""
        return self.fixed + self.each * batch


def memory_of_a_step(
    model: Module, new: Callable[[], Optimizer], shape: tuple[int, ...], classes: int
) -> Memory | None:
    """What steps of a ``new`` optimizer use, on noise ``(N, *shape)``; the weights are moved.

    None where the arrays do not lie in the host's memory.
    """
    if current_backend().name != "numpy":
        return None

    def peak(batch: int) -> int:
        return _peak(model, new, shape, classes, batch)

    first = peak(FEW[0])
    few = FEW if first / FEW[0] * SAMPLES[1] > LARGE else SAMPLES
    low, high = first if few is FEW else peak(few[0]), peak(few[1])
    each = max(0.0, (high - low) / (few[1] - few[0]))
    return Memory(low - few[0] * each + model.weights.flat.nbytes, each)


def _peak(
    model: Module, new: Callable[[], Optimizer], shape: tuple[int, ...], classes: int, batch: int
) -> int:
    x, y = random_batch(batch, shape, classes)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        optimizer = new()
        optimizer.step(objective(model, x[:2], y[:2]), model.weights.flat)  # makes its state
        optimizer.step(objective(model, x, y), model.weights.flat)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
