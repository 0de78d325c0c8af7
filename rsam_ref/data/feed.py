"""Mini-batches: which samples a step sees, by its number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from rsam_backends import Stream
from rsam_ref.data.samples import Samples

TEST_BATCH = 500


def batches(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
    """The samples' numbers 0 .. n-1 in the random order of (seed, epoch), a batch at a time."""
    order = Stream("order", seed, epoch).permutation(n)
    for start in range(0, n, batch_size):
        yield order[start : start + batch_size]


def in_order(samples: Samples) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All samples, inputs and labels, in their order, not augmented, a batch at a time."""
    everything = np.arange(len(samples))
    for start in range(0, len(samples), TEST_BATCH):
        index = everything[start : start + TEST_BATCH]
        yield samples.take(index), samples.labels[index]


class Feed:
    """The mini-batches of training samples, by the number of the step.

    Batch i is a function of (seed, i) alone. The next one is prepared while this one is used.
    """

    def __init__(self, samples: Samples, batch_size: int, seed: int) -> None:
        self.samples = samples
        self.seed = seed
        self.per_epoch = math.ceil(len(samples) / batch_size)
        self._order = lru_cache(2)(
            lambda epoch: list(batches(len(samples), batch_size, seed, epoch))
        )
        self._worker = ThreadPoolExecutor(1, "batches")
        self._next: tuple[int, Future[tuple[Any, Any]]] | None = None

    def prepare(self, step: int) -> tuple[Any, Any]:
        """The batch of a step: inputs (N, C, H, W), augmented, and labels (N,), on the host."""
        epoch, i = divmod(step, self.per_epoch)
        index = self._order(epoch)[i]
        x = self.samples.take(index, Stream("augment", self.seed, epoch, i))
        return x, self.samples.labels[index]

    def __call__(self, step: int) -> tuple[Any, Any]:
        """Inputs and labels of a step, on the host."""
        if self._next is not None and self._next[0] == step:
            batch = self._next[1].result()
        else:
            batch = self.prepare(step)
        self._next = step + 1, self._worker.submit(self.prepare, step + 1)
        return batch

    def close(self) -> None:
        """Stop the thread that prepares."""
        self._worker.shutdown(cancel_futures=True)
