"""Threads for the NumPy kernels: a piece of work for each core, with BLAS at one thread meanwhile.

What a piece of work computes does not depend on which thread does it, so results are the same bit
for bit whatever the number of threads.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


def share_out(work: Callable[[Any], None], pieces: Sequence[Any]) -> None:
    """``work(piece)`` for every piece, shared out among the threads; returns when all are done."""
    n = 1 if _here.alone else min(threads(), len(pieces))
    if n <= 1:
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

    with _one_blas_thread():
        # A copy of the context each: NumPy keeps in it whether to warn of overflow.
        others = [_pool(n - 1).submit(contextvars.copy_context().run, share) for _ in range(1, n)]
        try:
            share()
        finally:
            for other in others:
                other.exception()  # waits
        for other in others:
            other.result()


@cache
def _pool(n: int) -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(n, "rsam_backends")


if hasattr(os, "register_at_fork"):  # a forked child has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


@cache
def _blas() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


_lock = threading.Lock()
_inside = 0
_limit: Any = None


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """BLAS at one thread, and at its number from before when the last such block is left."""
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _blas().limit(limits=1)
        _inside += 1
    try:
        yield
    finally:
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
        with _one_blas_thread():
            yield
    finally:
        _here.alone = before
