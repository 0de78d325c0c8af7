"""What many trials are carried out by: processes of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from rsam_ref.training import processes
from rsam_ref.training.interruption import terminated_as_by_ctrl_c

CarryOut = Callable[..., None]
"""As `processes.carry_out`, without the numbers of jobs and threads."""


@dataclass(frozen=True)
class Once:
    """An experiment that is too large to go along with every trial: a worker is sent it once."""

    value: Any


LOCAL = "local"
"""A cluster of processes on this machine."""


def check_address(cluster: str | None) -> None:
    """Raise ValueError for what is no address of a cluster."""
    if cluster is not None and cluster != LOCAL and "://" not in cluster:
        raise ValueError(f"--cluster {cluster}: write tcp://HOST:PORT, or {LOCAL}")


@contextmanager
def engine(
    cluster: str | None, jobs: int, threads: int = 1, tell: Callable[[str], Any] = print
) -> Iterator[CarryOut]:
    """What carries out trials inside the block; ``tell`` is given a line on the cluster.

    In the block SIGTERM is as Ctrl-C. Raises as `cluster.connected` does.
    """
    if cluster is None:
        with terminated_as_by_ctrl_c():
            yield partial(processes.carry_out, jobs=jobs, threads=threads)
        return
    from rsam_ref.training.cluster import connected

    with terminated_as_by_ctrl_c(), connected(cluster, jobs, threads) as found:
        tell(found.described)

        def carry_out(work: Any, experiment: Any, *arguments: Any, **options: Any) -> None:
            given = found.shared(experiment.value) if isinstance(experiment, Once) else experiment
            found.carry_out(work, given, *arguments, **options)

        yield carry_out
