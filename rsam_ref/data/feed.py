"""Mini-batches: which samples a step sees, by its number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from rsam_backends import Stream
from rsam_ref.data.samples import Samples

TEST_BATCH = 500
AHEAD = 2  # batches that are prepared while one is used


def batches(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
    """The samples' numbers 0 .. n-1 in the random order of (seed, epoch), a batch at a time."""
    order = Stream("order", seed, epoch).permutation(n)
    for start in range(0, n, batch_size):
        yield order[start : start + batch_size]


def in_order(
    samples: Samples, first: int = 0, step: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All samples, inputs and labels, in their order, not augmented, a batch at a time.

    The next one is prepared while this one is used. Others may see other batches meanwhile: here
    come the ``first`` and from there every ``step``-th.
    """
    everything = samples.everything
    parts = [everything[i : i + TEST_BATCH] for i in range(0, len(samples), TEST_BATCH)]
    parts = parts[first::step]
    with ThreadPoolExecutor(1, "test batches") as worker:
        coming = [worker.submit(samples.take, index) for index in parts[:1]]
        for i, index in enumerate(parts):
            x = coming.pop().result()
            coming += [worker.submit(samples.take, after) for after in parts[i + 1 : i + 2]]
            yield x, samples.labels[index]


class Feed:
    """The mini-batches of training samples, by the number of the step.

    Batch i is a function of (seed, i) alone. The next two are prepared while this one is used; with
    ``epochs`` none beyond so many. ``part`` says which samples of n in a batch are wanted here, if
    not all; they are as they would be among all.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        seed: int,
        epochs: int | None = None,
        part: Callable[[int], slice] = lambda n: slice(n),
    ) -> None:
        self.samples = samples
        self.seed = seed
        self.part = part
        self.per_epoch = math.ceil(len(samples) / batch_size)
        self._end = math.inf if epochs is None else epochs * self.per_epoch
        self._order = lru_cache(2)(
            lambda epoch: list(batches(len(samples), batch_size, seed, epoch))
        )
        self._worker = ThreadPoolExecutor(1, "batches")
        self._coming: dict[int, Future[tuple[Any, Any]]] = {}

    def prepare(self, step: int) -> tuple[Any, Any]:
        """The batch of a step: inputs (N, C, H, W), augmented, and labels (N,), on the host."""
        epoch, i = divmod(step, self.per_epoch)
        index = self._order(epoch)[i]
        part = self.part(len(index))
        x = self.samples.take(index, Stream("augment", self.seed, epoch, i), part)
        return x, self.samples.labels[index[part]]

    def size(self, step: int) -> int:
        """How many samples the whole batch of a step has."""
        epoch, i = divmod(step, self.per_epoch)
        return len(self._order(epoch)[i])

    def __call__(self, step: int) -> tuple[Any, Any]:
        """Inputs and labels of a step, on the host."""
        ready = self._coming.pop(step, None)
        wanted = range(step + 1, step + 1 + AHEAD)
        for other in self._coming.keys() - set(wanted):
            self._coming.pop(other).cancel()
        batch = ready.result() if ready is not None else self.prepare(step)
        for later in wanted:
            if later < self._end and later not in self._coming:
                self._coming[later] = self._worker.submit(self.prepare, later)
        return batch

    def close(self) -> None:
        """Stop the thread that prepares."""
        self._worker.shutdown(cancel_futures=True)
