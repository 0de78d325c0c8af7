"""A command as one of the ranks that mpiexec has started: one of them tells, and all end together.

Rank 0 prints. What another one says is kept until it fails, and then told only if rank 0 has not
failed, too, a moment later: mostly all of them meet the same error. A rank that fails ends the
others, which would wait for it for ever.
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

from rsam_ref.commands.terminal import choose, fail

SHARED = ("train",)
"""Commands whose work ranks share out among themselves."""

MOMENT = 3.0
"""Seconds for which a rank that fails waits for rank 0 to tell the same."""


class _Ended:
    together = False


def launched() -> bool:
    """Whether a launcher of MPI has started this process."""
    from rsam_ref.launched import launched_as

    return launched_as() is not None


def refuse_ranks(command: str | None) -> None:
    """End a command that mpiexec would only start several times over."""
    from rsam_ref.launched import OFF, SIZE, launched_as

    size = launched_as(SIZE) if launched() else None
    if command not in SHARED and (size or 1) > 1:
        fail(
            f"mpiexec has started rsam-ref {command} {size} times over: ranks share the work of "
            f"{', '.join(SHARED)} alone. Start it once, or with {OFF}=0 each for itself"
        )
        raise typer.Exit(2)


def together(backend: str, kernels: str, threads: int | None) -> Any:
    """`choose` for a command whose work ranks share: the ranks, or this process alone."""
    from rsam_ref.training.ranks import choose_gpu, started

    if launched() and backend == "cupy":
        choose_gpu()
    choose(backend, kernels, threads)
    return started(threads)


def end_together() -> None:
    """Say that all ranks come to this end, so none of them has to end the others."""
    _Ended.together = True


def as_a_rank(command: Callable[[], None]) -> None:
    """Run a command as the rank that this process is."""
    from rsam_ref.launched import launched_as

    rank = launched_as()
    os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")  # ours is told already
    shown, kept = sys.stderr, io.StringIO()
    if rank:
        sys.stdout, sys.stderr = open(os.devnull, "w"), kept  # noqa: SIM115 - until the end
    code = 1
    try:
        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        fail("stopped by Ctrl-C")
        code = 130
    except BaseException:
        traceback.print_exc()
    if code == 0:
        return
    if _Ended.together:
        sys.exit(code)
    shown.flush()
    world = _world()
    if rank:
        time.sleep(MOMENT)
        shown.write(_of_rank(rank, kept.getvalue()))
        shown.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what MPI says of an end helps nobody
    if world is not None:
        world.Abort(code)
    os._exit(code)


def _of_rank(rank: int, text: str) -> str:
    """What a rank has to tell, with its number."""
    if "rsam-ref: " in text:
        return text.replace("rsam-ref: ", f"rsam-ref: rank {rank}: ", 1)
    return f"rsam-ref: rank {rank}:\n{text}"


def _world() -> Any:
    """The communicator of all ranks; None where there is none to be had.

    Ranks that wait for this one to begin go on, and can be ended.
    """
    try:
        from mpi4py import MPI
    except ImportError:
        return None
    return MPI.COMM_WORLD
