"""Training on ranks of MPI: measured here on two, and modelled for more.

    python -m benchmarks.ranks            # both; needs mpi4py and mpiexec, and two cores
    python -m benchmarks.ranks --model    # the model alone, with the numbers measured before

Measured: a step of two ranks with a thread each against one process with two threads, on the same
mini-batch (strong scaling) and against one process with one thread on half of it (weak); processes
take turns. Then what an exchange takes by its size, and flops a second, which the model is given.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.duel import THREADS
from benchmarks.ranks_model import METHODS, NETWORKS, Machine, cost, efficiency, pays_until
from rsam_ref import RSAM, SGD, models
from rsam_ref.algorithms.workers import PerWorker
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.nn.batch_parts import Sharded
from rsam_ref.nn.objective import objective
from rsam_ref.nn.shards import bounds
from rsam_ref.nn.workers import Workers
from rsam_ref.training.profiling import random_batch
from rsam_ref.training.ranks import Ranks, started

SMALL = (3, 32, 32)
CASES: dict[str, tuple[Callable[[], Any], int, tuple[int, ...]]] = {
    "mlp 784-1024-1024-10": (lambda: models.mlp([784, 1024, 1024, 10]), 128, (784,)),
    "resnet20": (models.resnet20, 32, SMALL),
    "vit_tiny, 4 blocks, patch 8": (
        lambda: models.vit_tiny(image_size=32, patch=8, depth=4, classes=10),
        64,
        SMALL,
    ),
}

CLUSTERS = {  # latency and bandwidth as such networks are sold, not measured
    "10 Gb Ethernet": (30e-6, 1.25e9),
    "200 Gb InfiniBand": (2e-6, 25e9),
}
ACCELERATOR = 1e14
"""Flops a second of a rank with a GPU of the larger kind; given, not measured."""


# In a process that is measured


def step_of(case: str, batch: int, shards: int, worker: bool, ranks: Ranks) -> Callable[[], Any]:
    """R-SAM's step on a mini-batch of random samples, of which this rank has its part."""
    make, _, shape = CASES[case]
    model = make()
    x, y = random_batch(batch, shape, 10)
    optimizer = RSAM(SGD(0.01, momentum=0.9))
    w = model.weights.flat
    if shards == 1:
        return lambda: optimizer.step(objective(model, x, y), w)
    ranks.deal(shards, batch)
    cuts, own = bounds(batch, shards), ranks.group.own(shards)
    x, y = (a[cuts[own.start] : cuts[own.stop]] for a in (x, y))
    if worker:
        mine = (model, x, y, cross_entropy, lambda i: i, shards, None, ranks.group, batch)
        return lambda: PerWorker(optimizer).step(Workers(*mine), w)
    seeds = range(shards)
    return lambda: optimizer.step(Sharded(model, x, y, cross_entropy, seeds, ranks.group, batch), w)


def measure_steps(ranks: Ranks, case: str, batch: str, shards: str, how: str) -> list[float]:
    step = step_of(case, int(batch), int(shards), how == "worker", ranks)
    found = []
    for i in range(8):
        ranks.wait()
        began = time.perf_counter()
        step()
        if i >= 2:
            found.append(time.perf_counter() - began)
    return found


def measure_exchanges(ranks: Ranks) -> list[tuple[int, float]]:
    """Bytes of a vector, and the seconds of its sum."""
    ranks.deal(ranks.size, ranks.size)
    found = []
    for size in (16, 1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 22):
        vector, times = np.ones(size, "float32"), []
        for _ in range(20):
            ranks.wait()
            began = time.perf_counter()
            ranks.group.sum([(vector,)])
            times.append(time.perf_counter() - began)
        found.append((4 * size, statistics.median(times[2:])))
    return found


# In the process that measures


def run(threads: int, *words: Any, ranks: int = 1) -> Any:
    """What a process, or the first of the ranks, has measured."""
    program = [sys.executable, "-m", "benchmarks.ranks", "--child", " | ".join(map(str, words))]
    if ranks > 1:
        beside = Path(sys.executable).with_name("mpiexec")
        program = [str(beside) if beside.exists() else "mpiexec", "-n", str(ranks), *program]
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(program)} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def scaling(case: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of steps, by who has taken them; all of them take turns."""
    batch = CASES[case][1]
    ways: dict[str, Callable[[], Any]] = {
        "alone": lambda: run(2, "steps", case, batch, 1, "global"),
        "shards": lambda: run(2, "steps", case, batch, 2, "global"),
        "ranks": lambda: run(1, "steps", case, batch, 2, "global", ranks=2),
        "per worker": lambda: run(1, "steps", case, batch, 2, "worker", ranks=2),
        "half": lambda: run(1, "steps", case, batch // 2, 1, "global"),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            found[name] += measure()
    return found


def tell_scaling(console: Console, rounds: int) -> None:
    table = Table("R-SAM's step", "one process, 2 threads", "2 shards", "2 ranks", "per worker")
    table.add_column("weak: 2 ranks / half alone")
    for case, (_, batch, _) in CASES.items():
        found = {name: statistics.median(times) for name, times in scaling(case, rounds).items()}
        ratios = [found[name] / found["alone"] for name in ("shards", "ranks", "per worker")]
        table.add_row(
            f"{case}, batch {batch}",
            f"{1e3 * found['alone']:.0f} ms",
            *(f"x {ratio:.2f}" for ratio in ratios),
            f"x {found['ranks'] / found['half']:.2f}",
        )
    console.print(table)


def fitted(told: list[tuple[int, float]]) -> tuple[float, float]:
    """Latency of a message and bytes a second received, of exchanges on two ranks.

    A vector's sum on two ranks is two messages, and as many bytes as it has.
    """
    latency = min(seconds for _, seconds in told) / 2
    size, seconds = told[-1]
    return latency, size / (seconds - 2 * latency)


def tell_model(console: Console, machine: Machine, title: str, batch: int) -> None:
    counts = (1, 8, 64, 512)
    columns = [f"{n} ranks" if n > 1 else "step alone" for n in counts]
    columns += ["half of it computing until", "64 ranks, overlapped", "MB received, of 64"]
    table = Table(title, *columns)
    for network in NETWORKS:
        for method in METHODS:
            alone = cost(network, method, machine, 1, batch).seconds
            cells = [
                f"{100 * efficiency(network, method, machine, n, batch / n):.0f} %"
                for n in counts[1:]
            ]
            of_64 = cost(network, method, machine, 64, batch / 64)
            until = pays_until(network, method, machine, batch)
            table.add_row(
                f"{network.name}, {method.name}",
                f"{alone:.3g} s",
                *cells,
                f"{until} ranks",
                f"{100 * of_64.computing / of_64.seconds_if_overlapped:.0f} %",
                f"{of_64.received / 1e6:.0f}",
            )
    console.print(table)


def main(
    model: Annotated[bool, typer.Option("--model", help="Measure nothing.")] = False,
    rounds: Annotated[int, typer.Option(help="Turns of every process.")] = 2,
    batch: Annotated[int, typer.Option(help="Of the model: samples of a step, shared out.")] = 4096,
    rate: Annotated[float, typer.Option(help="Flops a second of a core.")] = 3e10,
    latency: Annotated[float, typer.Option(help="Seconds of a message.")] = 30e-6,
    bandwidth: Annotated[float, typer.Option(help="Bytes a second received.")] = 1e9,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Print what is measured, then what is modelled."""
    if child:
        kind, *words = child.split(" | ")
        ranks = started(threads=1)
        measured: Any = (
            measure_exchanges(ranks) if kind == "exchanges" else measure_steps(ranks, *words)
        )
        if ranks.first:
            print(json.dumps(measured))
        return
    console = Console(width=140)
    if not model:
        tell_scaling(console, rounds)
        told = run(1, "exchanges", ranks=2)
        latency, bandwidth = fitted(told)
        alone = statistics.median(run(1, "steps", "resnet20", 32, 1, "global"))
        rate = 2 * 3 * RESNET20_FLOPS * 32 / alone
        console.print(
            f"An exchange of 2 ranks here: {1e6 * latency:.0f} us a message, "
            f"{bandwidth / 1e9:.2f} GB/s; a core: {rate / 1e9:.0f} Gflop/s in ResNet-20.",
            highlight=False,
        )
    here = Machine(rate, latency, bandwidth)
    tell_model(console, here, f"A core a rank, memory of one machine; batch {batch}", batch)
    for name, (its_latency, its_bandwidth) in CLUSTERS.items():
        machine = Machine(ACCELERATOR, its_latency, its_bandwidth)
        tell_model(console, machine, f"A GPU a rank, {name}; batch {batch}", batch)


RESNET20_FLOPS = 2 * 40.8e6
"""Of a forward pass at 32 x 32, from the shapes of its layers (He et al. 2016, section 4.2)."""

if __name__ == "__main__":
    typer.run(main)
