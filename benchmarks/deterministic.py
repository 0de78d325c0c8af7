"""What `deterministic` costs: R-SAM's step of an MLP and of a CNN, and the MLP's largest product.

    python -m benchmarks.deterministic

With it and without, in blocks that take turns, so that a busy machine is busy for both; the ratio
is taken pair by pair. On such a machine the fastest steps tell more of a quiet one than medians:
threads that wait for one another wait for whatever else runs. With BLAS at one thread already
nothing is paid.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.duel import quartiles
from benchmarks.scaling import Step, step
from rsam_backends import current_backend, deterministic
from rsam_ref import models


def product() -> Step:
    """So short that other work leaves it alone now and then."""
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal((n, 1024)).astype("float32") for n in (128, 1024))

    def run() -> None:
        x @ weight.T

    return run


STEPS: dict[str, Callable[[], Step]] = {
    "mlp 784-1024-1024-10, batch 128": lambda: step(models.mlp([784, 1024, 1024, 10]), 128, (784,)),
    "cnn, batch 128": lambda: step(models.cnn(), 128, (1, 28, 28)),
    "128 x 1024 by 1024 x 1024 alone": product,
}


def times(run: Step, steps: int, block: AbstractContextManager[Any]) -> list[float]:
    """The seconds of every step in a block of some."""
    found = []
    with block:
        for _ in range(steps):
            began = time.perf_counter()
            run()
            found.append(time.perf_counter() - began)
    return found


def main(
    blocks: Annotated[int, typer.Option(help="Pairs of blocks.")] = 20,
    steps: Annotated[int, typer.Option(help="Steps in a block.")] = 5,
) -> None:
    """Print a step's time without and with, median and fastest, and the ratios' quartiles."""
    console = Console()
    console.print(current_backend().describe()["BLAS"], highlight=False)
    columns = "without, ms", "with, ms", "fastest", "with / without, quartiles"
    table = Table("R-SAM's step, or product", *columns)
    for name, make in STEPS.items():
        run = make()
        times(run, 2, nullcontext())
        found: dict[bool, list[float]] = {False: [], True: []}
        ratios = []
        for i in range(blocks):
            sums = {}
            for fixed in (False, True) if i % 2 else (True, False):
                block = times(run, steps, deterministic() if fixed else nullcontext())
                found[fixed] += block
                sums[fixed] = sum(block)
            ratios.append(sums[True] / sums[False])
        medians = [f"{1000 * statistics.median(column):.1f}" for column in found.values()]
        fastest = ", ".join(f"{1000 * min(column):.1f}" for column in found.values())
        table.add_row(name, *medians, fastest, ", ".join(f"{r:.2f}" for r in quartiles(ratios)))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
