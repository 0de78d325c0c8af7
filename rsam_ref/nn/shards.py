"""Data parallelism: a mini-batch in shards, each with a forward and a backward pass of its own.

Only two things need to know of it: the gradients are summed over the shards, and batch norm takes
its statistics, and their part in its gradient, over all of them. Both ask their `Shard`. So a
step on shards is the step on the whole mini-batch, up to rounding.

Here the shards are threads. Where they are processes or machines, another `Shard` takes the place
of `ThreadShard`, and nothing else changes.
"""

from __future__ import annotations

import contextvars
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rsam_backends import carried
from rsam_backends.base import Array
from rsam_backends.threads import alone

Result = TypeVar("Result")


class Shard(ABC):
    """One shard of a mini-batch, and its way to the others."""

    share: float
    """How much of the mini-batch it is."""

    @abstractmethod
    def all_reduce(self, array: Array) -> Array:
        """The sum of all shards' arrays, in the order of the shards: the same bits for each.

        Every shard must call it, and all in the same order.
        """

    def mean(self, mean: Array) -> Array:
        """The mean over the whole mini-batch, from the mean over each shard's own samples."""
        return self.all_reduce(self.share * mean)


class _Table:
    """Where the threads of a mini-batch lay their arrays down and look at those of the others."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.arrays: list[Any] = [None] * size


class ThreadShard(Shard):
    """A shard in a thread of this process."""

    def __init__(self, table: _Table, rank: int, share: float) -> None:
        self.table, self.rank, self.share = table, rank, share

    def all_reduce(self, array: Array) -> Array:
        """The sum of the arrays that all shards' threads hand in; waits for the last of them."""
        self.table.arrays[self.rank] = array
        self.table.barrier.wait()  # all are there
        total = sum(self.table.arrays[1:], start=self.table.arrays[0])
        self.table.barrier.wait()  # all have been read
        return total


def run_in_threads(
    works: Sequence[Callable[[Shard], Result]], shares: Sequence[float]
) -> list[Result]:
    """Call every work with its shard, each in a thread, with the backend of this one.

    If one fails the others are stopped where they next wait, and its error is raised.
    """
    table = _Table(len(works))
    results: list[Any] = [None] * len(works)
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            with alone():
                results[rank] = works[rank](ThreadShard(table, rank, shares[rank]))
        except threading.BrokenBarrierError:
            pass  # another shard failed
        except BaseException as error:  # KeyboardInterrupt too: the others wait for this one
            errors.append(error)
            table.barrier.abort()

    others = [
        threading.Thread(target=contextvars.copy_context().run, args=(carried(run), rank))
        for rank in range(1, len(works))
    ]
    for thread in others:
        thread.start()
    run(0)
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]
    return results
