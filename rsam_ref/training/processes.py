"""Many trials at a time, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from rsam_ref.training.trials import K, Keeps

BETWEEN = 1.0
"""Seconds after which a worker without its parent is told again to end."""


def end_with_parent() -> None:
    """In a worker: end when the process that started it is gone, however that ended.

    A run under way is asked to, so it keeps what it has.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        while True:  # a run that was at its end has met the first, and the next one must not begin
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(BETWEEN)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def workers_environment(n: int) -> Iterator[None]:
    """Processes started inside have n threads each, of BLAS too, and leave Ctrl-C to the parent.

    They inherit both: NumPy reads the variables when it is loaded.
    """
    threads = {f"{library}_NUM_THREADS": str(n) for library in ("OPENBLAS", "MKL", "OMP")}
    threads["RSAM_REF_THREADS"] = str(n)
    before = {name: os.environ.get(name) for name in threads}
    os.environ.update(threads)
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    try:
        yield
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def carry_out(
    work: Callable[[Any, K], dict[str, Any]],
    experiment: Any,
    trials: Sequence[K],
    store: Keeps[K],
    *,
    jobs: int = 1,
    threads: int = 1,
    on_trial: Callable[[K, dict[str, Any]], None] | None = None,
) -> None:
    """Do the trials that are not in the store yet, ``jobs`` at a time, and add each as it ends.

    ``work(experiment, trial)`` gives a trial's record. It is done in other processes with so many
    ``threads`` each, so a trial's numbers do not depend on the number of jobs. When this is
    interrupted the processes are asked to end, and waited for; by a second Ctrl-C they are ended.
    If this process is killed, they end by themselves.
    """
    todo = [trial for trial in trials if trial not in store.finished]
    if not todo:
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(todo)), spawn, initializer=end_with_parent)
    waiting: dict[Future[dict[str, Any]], K] = {}
    try:
        with workers_environment(threads):
            for trial in todo:
                waiting[pool.submit(work, experiment, trial)] = trial
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                trial = waiting.pop(future)
                record = future.result()
                store.add(trial, record)
                if on_trial is not None:
                    on_trial(trial, record)
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker process was killed (out of memory?); what is finished is kept: run the "
            "same command again, perhaps with fewer --jobs"
        ) from None
    finally:
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        if waiting:  # interrupted: what is under way is given up
            for worker in workers:
                worker.terminate()
            _await(workers)


def _await(workers: list[Any]) -> None:
    """Wait until processes have ended, which may write down what they have; Ctrl-C ends them."""
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.kill()
