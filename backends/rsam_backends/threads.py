"""Threads for the NumPy kernels: a piece of work for each core, with BLAS at one thread meanwhile.

What a piece of work computes does not depend on which thread does it, so results are the same bit
for bit whatever the number of these threads. Products that are not shared out are BLAS's, which has
threads of its own, and on another number of those other last bits: `one_blas_thread`.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # both are loaded where work is first shared out: 10 ms that most imports save
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import ThreadpoolController

ENVIRONMENT = "RSAM_REF_THREADS"


def _available() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _from_environment() -> int:
    text = os.environ.get(ENVIRONMENT, "")
    if not text:
        return _available()
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{ENVIRONMENT} is a number of threads and must be >= 1, not {text!r}")
    return int(text)


_threads: int | None = None


def threads() -> int:
    """How many threads the kernels use: RSAM_REF_THREADS, or as many as there are cores."""
    return _from_environment() if _threads is None else _threads


def set_threads(n: int | None) -> None:
    """Use ``n`` threads from now on; None for the environment's number again."""
    global _threads
    if n is not None and n < 1:
        raise ValueError(f"a number of threads must be >= 1, not {n}")
    _threads = n


def limit_threads(n: int) -> None:
    """Let kernels and BLAS use at most ``n`` threads from now on, in this process."""
    set_threads(min(n, threads()))
    for library in _blas().lib_controllers:
        library.set_num_threads(min(n, library.get_num_threads()))


def share_out(work: Callable[[Any], None], pieces: Sequence[Any]) -> None:
    """``work(piece)`` for every piece, shared out among the threads; returns when all are done."""
    n = 1 if _here.alone else min(threads(), len(pieces))
    if n <= 1:
        # On one thread as on many several pieces have BLAS at one, so that the bits are the same.
        with one_blas_thread() if len(pieces) > 1 and not _here.alone else nullcontext():
            for piece in pieces:
                work(piece)
        return

    waiting = deque(pieces)  # a thread that is slower, on a busy core, takes fewer of them

    def share() -> None:
        while True:
            try:
                piece = waiting.popleft()
            except IndexError:
                return
            work(piece)

    with one_blas_thread():
        # A copy of the context each: NumPy keeps in it whether to warn of overflow.
        others = [_pool(n - 1).submit(contextvars.copy_context().run, share) for _ in range(1, n)]
        try:
            share()
        finally:
            for other in others:
                other.exception()  # waits
        for other in others:
            other.result()


def _begin_worker() -> None:
    """A worker's products have one thread; `one_blas_thread` is entered in another thread."""
    _blas_by_reach()[1].limit(limits=1)


@cache
def _pool(n: int) -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(n, "rsam_backends", initializer=_begin_worker)


if hasattr(os, "register_at_fork"):  # a forked child has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


@cache
def _blas() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


@cache
def _blas_by_reach() -> tuple[ThreadpoolController, ThreadpoolController]:
    """The libraries with one number of threads, and those with one for every thread that asks.

    The latter are OpenBLAS on OpenMP, as conda and Linux distributions have it.
    """
    own = [
        library["filepath"]
        for library in _blas().info()
        if (library["internal_api"], library.get("threading_layer")) == ("openblas", "openmp")
    ]
    common = [library["filepath"] for library in _blas().info() if library["filepath"] not in own]
    return _blas().select(filepath=common), _blas().select(filepath=own)


def blas_libraries() -> list[dict[str, Any]]:
    """The BLAS libraries that are loaded, as threadpoolctl tells of them, the first loaded first.

    It knows OpenBLAS, MKL, BLIS and FlexiBLAS; there may be none, as with Apple's Accelerate.
    """
    return list(_blas().info())


_lock = threading.Lock()
_inside = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS at one thread, and at its number from before when the last such block is left.

    Then what NumPy and the kernels compute is the same bits on any number of threads, of one BLAS
    on one kind of processor. A BLAS that threadpoolctl does not know stays as it is.
    """
    global _inside, _limit
    common, own = _blas_by_reach()
    with _lock:
        if _inside == 0:
            _limit = common.limit(limits=1)
        _inside += 1
    of_this_thread = own.limit(limits=1) if own.lib_controllers else None
    try:
        yield
    finally:
        if of_this_thread is not None:
            of_this_thread.restore_original_limits()
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()


class _Here(threading.local):
    alone = False


_here = _Here()


@contextmanager
def alone() -> Iterator[None]:
    """Inside this block this thread's work is not shared out, and BLAS has one thread.

    For threads that share the work out among themselves, on a larger scale.
    """
    before, _here.alone = _here.alone, True
    try:
        with one_blas_thread():
            yield
    finally:
        _here.alone = before
