"""Data parallelism: a mini-batch in shards, each with a forward and a backward pass of its own.

Only two things need to know of it: the gradients are summed over the shards, and batch norm takes
its statistics, and their part in its gradient, over all of them. Both ask their `Shard` or the
`Group` that it is in. So a step on shards is the step on the whole mini-batch, up to rounding.

Here the shards are threads. Of a group that reaches further (mpi.py), this process has some of the
shards in its threads, and others have the rest; nothing else changes.
"""

from __future__ import annotations

import contextvars
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rsam_backends import carried, xp
from rsam_backends.base import Array
from rsam_backends.threads import alone

Result = TypeVar("Result")


def bounds(n: int, k: int) -> list[int]:
    """Where n samples are cut into k parts, as equal as they can be: k + 1 numbers from 0 to n.

    Raises ValueError for more parts than samples.
    """
    if not 1 <= k <= n:
        raise ValueError(f"a mini-batch of {n} cannot be shared out in {k} parts")
    return [n * i // k for i in range(k + 1)]


class Group:
    """All shards of a mini-batch: those of this process, and its way to those of others.

    This one has them all in this process.
    """

    def own(self, count: int) -> range:
        """Which of ``count`` shards are this process's."""
        return range(count)

    def gather(self, own: list[Array]) -> list[Array]:
        """The arrays of all shards, in their order, from those of this process's."""
        return own

    def sum(self, own: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
        """The sums over all shards, in their order, of the first arrays, the second, and so on.

        They may lie where the first shard's arrays lay.
        """
        totals = list(own[0])
        for more in own[1:]:
            for i, array in enumerate(more):
                if totals[i].ndim:
                    totals[i] += array
                else:
                    totals[i] = totals[i] + array
        return tuple(totals)

    def first(self, found: str | None) -> str | None:
        """What the first process found that found something."""
        return found


ONE_PROCESS = Group()


class Shard(ABC):
    """One shard of a mini-batch, and its way to the others."""

    share: float
    """How much of the mini-batch it is."""

    @abstractmethod
    def all_gather(self, array: Array) -> list[Array]:
        """All shards' arrays, in the order of the shards: for reading.

        Every shard must call it, and all in the same order.
        """

    def all_reduce(self, array: Array) -> Array:
        """The sum of all shards' arrays, in the order of the shards: the same bits for each."""
        return _added(self.all_gather(array))

    def mean(self, mean: Array) -> Array:
        """The mean over the whole mini-batch, from the mean over each shard's own samples."""
        return self.all_reduce(self.share * mean)

    def statistics(self, mean: Array, var: Array) -> tuple[Array, Array]:
        """Mean and variance over the whole mini-batch, from those over each shard's own samples.

        The variance is the mean of each shard's own and of its mean's squared distance.
        """
        rows = self.all_gather(xp.stack([mean, var, xp.full_like(mean, self.share)]))
        whole = _added([share * own for own, _, share in rows])
        return whole, _added([share * (var + (own - whole) ** 2) for own, var, share in rows])


def _added(arrays: Sequence[Array]) -> Array:
    return sum(arrays[1:], start=arrays[0])


class _Table:
    """Where the threads of a mini-batch lay their arrays down, and find those of all shards.

    The last to come gathers them; nobody lays down the next before all have come for it.
    """

    def __init__(self, size: int, group: Group) -> None:
        self.group = group
        self.own: list[Any] = [None] * size
        self.all: list[Array] = []
        self.barrier = threading.Barrier(size, self._gather)

    def _gather(self) -> None:
        self.all = self.group.gather(list(self.own))


class ThreadShard(Shard):
    """A shard in a thread of this process."""

    def __init__(self, table: _Table, place: int, share: float) -> None:
        self.table, self.place, self.share = table, place, share

    def all_gather(self, array: Array) -> list[Array]:
        """The arrays that all shards hand in; waits for the last of them."""
        self.table.own[self.place] = array
        self.table.barrier.wait()
        return self.table.all


def run_in_threads(
    works: Sequence[Callable[[Shard], Result]],
    shares: Sequence[float],
    group: Group = ONE_PROCESS,
) -> list[Result]:
    """Call every work with its shard, each in a thread, with the backend of this one.

    The works are this process's shards of a ``group``. If one fails the others are stopped where
    they next wait, and its error is raised.
    """
    table = _Table(len(works), group)
    results: list[Any] = [None] * len(works)
    errors: list[BaseException] = []

    def run(place: int) -> None:
        try:
            with alone():
                results[place] = works[place](ThreadShard(table, place, shares[place]))
        except threading.BrokenBarrierError:
            pass  # another shard failed
        except BaseException as error:  # KeyboardInterrupt too: the others wait for this one
            errors.append(error)
            table.barrier.abort()

    others = [
        threading.Thread(target=contextvars.copy_context().run, args=(carried(run), place))
        for place in range(1, len(works))
    ]
    for thread in others:
        thread.start()
    run(0)
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]
    return results
