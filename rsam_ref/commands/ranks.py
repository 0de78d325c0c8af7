"""A command as one of the ranks that mpiexec has started: one of them tells, and all end together.

Rank 0 prints. What another one says is kept until it fails, and then told only if rank 0 has not
failed, too, a moment later: mostly all of them meet the same error. Rank 0 names itself where the
others do not say the same. A rank that fails ends the others, which would wait for it for ever; so
does one that is done where others train.
"""

from __future__ import annotations

import io
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import typer

from rsam_ref.commands.terminal import Whose, choose, fail, warn

SHARED = ("train",)
"""Commands whose work ranks share out among themselves."""

MOMENT = 3.0
"""Seconds for which a rank that fails waits for rank 0 to tell the same."""


TAG = 7531
"""Of what a rank that fails sends to rank 0."""

SHORT = 2000
"""Characters of it: so few are on their way at once, whatever the receiver does."""


class _Done:
    joined = False  # the others train with this one
    together = False  # all come to the same end


def launched() -> bool:
    """Whether a launcher of MPI has started this process."""
    from rsam_ref.launched import launched_as

    return launched_as() is not None


def refuse_ranks(command: str | None) -> None:
    """End a command that would only be done several times over, or by processes each alone."""
    from rsam_ref.launched import OFF, SIZE, launched_as, tasks_without_pmi

    if (told := os.environ.get(OFF, "")) not in ("", "0", "1"):
        fail(f"{OFF}={told}: give 0, and a process is alone whatever has started it, or leave it")
        raise typer.Exit(2)
    if tasks := tasks_without_pmi():
        if os.environ.get("SLURM_PROCID", "0") == "0":
            fail(
                f"srun has started rsam-ref {command} {tasks} times over, with no PMI by which the "
                "processes would know of each other: choose one with srun --mpi=..., of those that "
                f"srun --mpi=list tells, or with {OFF}=0 let each be for itself"
            )
        raise typer.Exit(2)
    size = launched_as(SIZE) if launched() else None
    if command not in SHARED and (size or 1) > 1:
        fail(
            f"mpiexec has started rsam-ref {command} {size} times over: ranks share the work of "
            f"{', '.join(SHARED)} alone. Start it once, or with {OFF}=0 each for itself"
        )
        raise typer.Exit(2)


def together(backend: str, kernels: str, threads: int | None, work: str) -> Any:
    """`choose` for a command whose work ranks share: the ranks, or this process alone."""
    from rsam_ref.training.ranks import choose_gpu, started

    if launched() and backend == "cupy":
        choose_gpu()
    choose(backend, kernels, threads)
    ranks = started(threads, work)
    _Done.joined = True
    return ranks


def end_together() -> None:
    """Say that all ranks come to this end, so none of them has to end the others."""
    _Done.together = True


def as_a_rank(command: Callable[[], None]) -> None:
    """Run a command as the rank that this process is."""
    from rsam_ref.launched import launched_as

    rank = launched_as()
    os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")  # ours is told already
    shown, kept = sys.stderr, io.StringIO()
    if rank:
        sys.stdout, sys.stderr = open(os.devnull, "w"), kept  # noqa: SIM115 - until the end
    else:
        Whose.told = _whose
    code = 1
    try:
        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        fail("stopped by Ctrl-C")
        code = 130
    except BaseException as error:
        traceback.print_exc()
        if not rank and (whose := _whose(_last_line(error))):
            warn(f"{whose}{_last_line(error)}")
    if code == 0:
        code = _done_where_others_train()
    if code == 0:
        return
    if _Done.together:
        sys.exit(code)
    shown.flush()
    world = _world()
    if rank:
        if world is not None:
            world.isend(kept.getvalue()[-SHORT:], 0, TAG)
        time.sleep(MOMENT)
        shown.write(_of_rank(rank, kept.getvalue(), code))
        shown.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what MPI says of an end helps nobody
    if world is not None:
        world.Abort(code)
    os._exit(code)


def _whose(message: str) -> str:
    """How rank 0 begins what it fails with: its number, if the others do not fail with the same."""
    mpi = getattr(sys.modules.get("mpi4py"), "MPI", None)
    if _Done.together or mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return ""
    world = mpi.COMM_WORLD
    others, until = set(range(1, world.size)), time.monotonic() + MOMENT
    while others and time.monotonic() < until:
        if world.iprobe(tag=TAG):
            state = mpi.Status()
            if message[-SHORT // 2 :] not in world.recv(tag=TAG, status=state):
                break
            others.discard(state.source)
        else:
            time.sleep(0.01)
    return "rank 0: " if others else ""


def _last_line(error: BaseException) -> str:
    """What a traceback ends with."""
    return traceback.format_exception_only(error)[-1].strip()


def _of_rank(rank: int, text: str, code: int) -> str:
    """What a rank has to tell, with its number; last comes one line that says why it ends."""
    *before, last = text.strip().splitlines() or [f"ended with exit code {code}, and says nothing"]
    last = last.removeprefix("rsam-ref: ").removeprefix("Error: ")
    return "\n".join([*before, f"rsam-ref: rank {rank}: {last}\n"])


def _done_where_others_train() -> int:
    """The exit code of a rank that was given nothing to train: 1 if others were."""
    from rsam_ref.launched import SIZE, launched_as

    if _Done.joined or (launched_as(SIZE) or 1) == 1:
        return 0
    from rsam_ref.training.ranks import Ranks, RanksError

    world = _world()
    try:
        Ranks(world).agree_on_work("rsam-ref " + " ".join(sys.argv[1:]), trains=False)
    except RanksError as error:
        fail(str(error))
        return 1
    return 0


def _world() -> Any:
    """The communicator of all ranks; None where there is none to be had.

    Ranks that wait for this one to begin go on, and can be ended.
    """
    from rsam_ref.training.ranks import RanksError, begun

    try:
        return begun().COMM_WORLD
    except RanksError:
        return None
