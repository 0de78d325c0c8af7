"""Arrays from rank to rank of MPI: through the host's memory, or from GPU to GPU by NCCL.

Alone this file knows how an array travels; what is exchanged, and why, is told elsewhere. It is
given a communicator of mpi4py, and imports nothing of it.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from rsam_backends.base import Array
from rsam_backends.switch import current_backend, to_device, to_host, xp

BUSY = 0.002
"""Seconds for which a rank that waits keeps its core; then it looks five thousand times a second.

MPI's own waiting never lets go, and with more ranks than cores that is a hundred times as slow.
"""


class HostExchange:
    """Collective exchanges of the backend's arrays; all ranks call them in the same order."""

    on_host = True
    """Whether what comes has been on the host, so that looking at it does not wait for a device."""

    def __init__(self, communicator: Any, busy: float = BUSY) -> None:
        self.communicator = communicator
        self.busy = busy
        self.received = 0
        """Bytes that came from other ranks."""

    def all_to_all(self, rows: Array) -> Array:
        """Row r of (ranks, ...) goes to rank r; what comes are the ranks' rows for this one."""
        mine = np.ascontiguousarray(to_host(rows))
        theirs = np.empty_like(mine)
        self._wait(self.communicator.Ialltoall(mine, theirs))
        self.received += mine.nbytes - mine[0].nbytes
        return to_device(theirs)

    def all_gather(self, array: Array) -> Array:
        """The arrays of all ranks, of one shape, as rows of (ranks, ...)."""
        mine = np.ascontiguousarray(to_host(array))
        everything = np.empty((self.communicator.size, *mine.shape), dtype=mine.dtype)
        self._wait(self.communicator.Iallgather(mine, everything))
        self.received += everything.nbytes - mine.nbytes
        return to_device(everything)

    def _wait(self, request: Any) -> None:
        """Until an exchange is done; signals are heard meanwhile."""
        until = time.perf_counter() + self.busy
        while not request.Test():
            if time.perf_counter() < until and hasattr(os, "sched_yield"):
                os.sched_yield()
            else:
                time.sleep(0.0002)


class NCCLExchange:
    """The same from GPU to GPU: nothing is read back, and the host does not wait."""

    on_host = False

    def __init__(self, ranks: int, nccl: Any) -> None:
        """``nccl`` is what cupyx.distributed calls an NCCLBackend."""
        self.ranks = ranks
        self.nccl = nccl
        self.received = 0

    def all_to_all(self, rows: Array) -> Array:
        """As of a `HostExchange`."""
        theirs = xp.empty_like(rows)
        self.nccl.all_to_all(rows, theirs)
        self.received += rows.nbytes - rows.nbytes // self.ranks
        return theirs

    def all_gather(self, array: Array) -> Array:
        """As of a `HostExchange`."""
        everything = xp.empty((self.ranks, *array.shape), dtype=array.dtype)
        self.nccl.all_gather(array, everything, array.size)
        self.received += everything.nbytes - array.nbytes
        return everything


def exchange_for(communicator: Any, busy: float = BUSY) -> HostExchange | NCCLExchange:
    """How the arrays of the backend in force travel: by NCCL where CuPy has it."""
    if current_backend().name == "cupy":
        from cupy.cuda import nccl

        if nccl.available:
            from cupyx.distributed import NCCLBackend

            size, rank = communicator.size, communicator.rank
            return NCCLExchange(size, NCCLBackend(size, rank, use_mpi=True))
    return HostExchange(communicator, busy)
