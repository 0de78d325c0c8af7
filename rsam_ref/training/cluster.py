"""Many trials on a Dask cluster: `processes.carry_out` with workers that may be on other machines.

The scheduler gives every trial to one worker at a time. If a worker is lost, its trials are given
to others, and what they had in the store stays: a trial's record is kept here, once, as soon as it
has ended. A worker carries out one trial at a time and must have the same version of this package.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

import rsam_ref
from rsam_backends.threads import set_threads
from rsam_ref.training.processes import workers_environment
from rsam_ref.training.trials import K, Keeps

if TYPE_CHECKING:
    from distributed import Client, Future

WAIT = 10
"""Seconds in which a scheduler has to answer."""


class ClusterError(RuntimeError):
    """A cluster that cannot be reached, or cannot do the work. The message says what to do."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is connected to."""

    client: Client
    address: str
    threads: int

    @property
    def described(self) -> str:
        """Where it is, how many workers it has now, and its dashboard."""
        n = len(self.client.scheduler_info(n_workers=-1)["workers"])
        workers = f"{n} worker{'' if n == 1 else 's'}"
        wait = "" if n else "; runs begin when some come"
        return f"Dask: {workers} at {self.address}{wait}; dashboard {self.client.dashboard_link}"

    def shared(self, value: Any) -> Future:
        """A value for many trials, sent to each worker that needs it once.

        The scheduler keeps it too, so that it is not lost with the workers that have it.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self.client.submit(_itself, value, pure=False)

    def carry_out(
        self,
        work: Callable[[Any, K], dict[str, Any]],
        experiment: Any,
        trials: Sequence[K],
        store: Keeps[K],
        *,
        on_trial: Callable[[K, dict[str, Any]], None] | None = None,
    ) -> None:
        """Do the trials that are not in the store yet, and add each as it ends.

        Raises ClusterError where no worker can do them: when the rest is done, for a trial that
        ended several workers.
        """
        from distributed import as_completed

        todo = [trial for trial in trials if trial not in store.finished]
        waiting: dict[Future, K] = {}
        fatal: list[K] = []
        try:
            for trial in todo:
                future = self.client.submit(
                    _carried_out,
                    *(rsam_ref.__version__, self.threads, work, experiment, trial),
                    pure=False,
                )
                waiting[future] = trial
            for future in as_completed(list(waiting)):
                trial = waiting.pop(future)
                record = self._result(future)
                if record is None:
                    fatal.append(trial)
                    continue
                store.add(trial, record)
                future.release()
                if on_trial is not None:
                    on_trial(trial, record)
        finally:
            if waiting:
                self.client.cancel(list(waiting))
        if fatal:
            raise ClusterError(
                f"{len(fatal)} of {len(todo)} runs each ended several workers (out of memory?), "
                f"{fatal[0]} first; what is finished is kept: the same command tries them again"
            )

    @staticmethod
    def _result(future: Future) -> dict[str, Any] | None:
        """A trial's record; None where it ended one worker after another."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker:
            return None
        except CancelledError:
            raise ClusterError(
                "the scheduler is gone; what is finished is kept: start it again, and run the same "
                "command"
            ) from None
        except ModuleNotFoundError as error:
            raise ClusterError(
                f"a worker has no module {error.name!r}: install there what is installed here"
            ) from None


@contextmanager
def connected(address: str, jobs: int, threads: int = 1) -> Iterator[Cluster]:
    """The cluster at ``tcp://HOST:PORT``, or with "local" one of ``jobs`` processes, for a block.

    Raises ClusterError where nothing answers there, or Dask is not installed.
    """
    try:
        import distributed
    except ImportError:
        raise ClusterError("--cluster needs Dask: pip install 'rsam-ref[cluster]'") from None
    if address != "local":
        try:
            client = distributed.Client(address, timeout=WAIT)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {address} ({error}): start one with dask scheduler"
            ) from None
        with client:
            yield Cluster(client, address, threads)
        return
    with workers_environment(threads):
        cluster = distributed.LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    with cluster, distributed.Client(cluster) as client:
        yield Cluster(client, cluster.scheduler_address, threads)


def _itself(value: Any) -> Any:
    return value


def _carried_out(
    version: str, threads: int, work: Callable[[Any, Any], Any], experiment: Any, trial: Any
) -> Any:
    """On a worker: the work, if the worker is fit for it."""
    from distributed import get_worker

    worker = get_worker()
    if rsam_ref.__version__ != version:
        raise ClusterError(
            f"the worker {worker.address} has rsam-ref {rsam_ref.__version__}, this is {version}: "
            "install the same there"
        )
    if (n := worker.state.nthreads) > 1:
        raise ClusterError(
            f"the worker {worker.address} takes {n} runs at a time in one process: start workers "
            "with --nworkers N --nthreads 1"
        )
    set_threads(threads)
    with threadpool_limits(threads, user_api="blas"):
        return work(experiment, trial)
