"""Ranks as threads of this process: what MPI's communicator does, where there is no MPI.

It shows what is exchanged and in which order. Processes of their own are in test_mpi.py.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from rsam_backends import carried


class Communicator:
    """A rank's end of a communicator, with what ours ask of one of mpi4py's."""

    def __init__(self, rank: int, size: int, table: SimpleNamespace) -> None:
        self.rank, self.size, self._table = rank, size, table

    def allgather(self, value: Any) -> list[Any]:
        self._table.values[self.rank] = value
        self._table.barrier.wait()  # all are there
        found = list(self._table.values)
        self._table.barrier.wait()  # all have been read
        return found

    def bcast(self, value: Any) -> Any:
        return pickle.loads(self.allgather(pickle.dumps(value))[0])  # as it is sent

    def Iallgather(self, mine: Any, everything: Any) -> Any:  # noqa: N802 - mpi4py's names
        everything[...] = self.allgather(mine.copy())
        return SimpleNamespace(Test=lambda: True)

    def Ialltoall(self, mine: Any, theirs: Any) -> Any:  # noqa: N802
        theirs[...] = [rows[self.rank] for rows in self.allgather(mine.copy())]
        return SimpleNamespace(Test=lambda: True)


class NCCL:
    """What cupyx.distributed's NCCLBackend does, for arrays of the device double."""

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator

    def all_to_all(self, in_array: Any, out_array: Any) -> None:
        rows = self.communicator.allgather(in_array._hidden.copy())
        out_array._hidden[...] = [mine[self.communicator.rank] for mine in rows]

    def all_gather(self, in_array: Any, out_array: Any, count: int) -> None:
        assert count == in_array.size
        assert in_array._hidden.flags.c_contiguous, "NCCL takes contiguous arrays alone"
        out_array._hidden[...] = self.communicator.allgather(in_array._hidden.copy())


def on_ranks(size: int, work: Callable[[Communicator], Any]) -> list[Any]:
    """What ``work`` gives on every one of so many ranks; the first error is raised."""
    table = SimpleNamespace(values=[None] * size, barrier=threading.Barrier(size, timeout=60))
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(Communicator(rank, size, table))
        except BaseException as error:
            errors.append(error)
            table.barrier.abort()

    threads = [threading.Thread(target=carried(run), args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
