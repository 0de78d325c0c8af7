"""The group of shards whose processes are the ranks of MPI, on one machine or on many.

All ranks have as many shards, and a rank's are neighbours. What is summed is summed in the order of
the shards, so N ranks have the bits of N shards in one process.

A vector's sum is one exchange, in the two halves that every all-reduce of long vectors has: each
rank is sent a part of all vectors, which it adds up, and sends that part of the sum to all. So with
a shard on every rank it receives about two vectors, however many ranks there are. The arrays of
batch norm are short, and go whole to everyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsam_backends import xp
from rsam_backends.base import Array
from rsam_backends.ranks import HostExchange
from rsam_ref.nn.shards import Group


class MPIGroup(Group):
    """The shards of all ranks of a communicator of mpi4py, ``each`` of them with so many.

    A sum carries one number more: how many ranks wish to stop (see `stop`).
    """

    def __init__(self, communicator: Any, each: int, exchange: Any = None) -> None:
        """``exchange`` is how arrays travel: a `HostExchange` if not told, or an `NCCLExchange`."""
        self.communicator = communicator
        self.each = each
        self.exchange = exchange or HostExchange(communicator)
        self._wish = self._heard = False
        self.sums = self.gathers = 0  # exchanges so far, of vectors and of short arrays

    def own(self, count: int) -> range:
        """This rank's shards. Raises ValueError for a count that the ranks do not have together."""
        if count != self.communicator.size * self.each:
            raise ValueError(
                f"{self.communicator.size} ranks with {self.each} shards each do not have {count}"
            )
        first = self.communicator.rank * self.each
        return range(first, first + self.each)

    def gather(self, own: list[Array]) -> list[Array]:
        """The arrays of all shards, which are of one shape and type."""
        self.gathers += 1
        found = self.exchange.all_gather(xp.stack(own))  # (ranks, each, ...)
        return list(found.reshape(-1, *own[0].shape))  # -> (shards, ...)

    def sum(self, own: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
        """As of every group; one exchange for all arrays of one type."""
        totals: list[Any] = list(own[0])
        for dtype in dict.fromkeys(array.dtype for array in own[0]):
            places = [i for i, array in enumerate(own[0]) if array.dtype == dtype]
            total = self._sum(
                [xp.concatenate([shard[i].reshape(-1) for i in places]) for shard in own]
            )
            start = 0
            for i in places:
                end = start + own[0][i].size
                totals[i] = total[start:end].reshape(own[0][i].shape)  # (size,) -> what it was
                start = end
        return tuple(totals)

    def _sum(self, own: Sequence[Array]) -> Array:
        """The sum of the vectors (n,) of all shards."""
        self.sums += 1
        ranks, n = self.communicator.size, own[0].size
        length = -(-(n + 1) // ranks)  # of the part that a rank adds up
        tail = xp.zeros(ranks * length - n, dtype=own[0].dtype)
        tail[0] = self._wish
        no_wish = xp.zeros_like(tail)
        laid = [
            xp.concatenate([vector, no_wish if i else tail]).reshape(ranks, length)  # from flat
            for i, vector in enumerate(own)
        ]
        rows = self.exchange.all_to_all(xp.stack(laid, axis=1))  # (ranks, each, length)
        first, *others = rows.reshape(-1, length)  # -> (shards, length)
        for row in others:
            first += row
        total = self.exchange.all_gather(first).reshape(-1)  # (ranks, length) -> flat
        if self.exchange.on_host:
            self._heard = self._heard or bool(total[n] != 0)
        return total[:n]

    def stop(self, asked: bool) -> bool:
        """Whether to stop before the next step: the same for all ranks, whichever was ``asked``.

        The answer comes with the sums of the steps before. From a GPU it would have to be waited
        for, so there the hosts ask each other.
        """
        if not self.exchange.on_host:
            return any(self.communicator.allgather(asked))
        self._wish = asked
        return self._heard

    def first(self, found: str | None) -> str | None:
        """What the first rank found that found something."""
        return next(filter(None, self.communicator.allgather(found)), None)
