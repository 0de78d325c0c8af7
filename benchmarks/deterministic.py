"""What `deterministic` costs: R-SAM's step of an MLP and of a CNN, with it and without, in turn.

    python -m benchmarks.deterministic

Blocks of the two take turns, so that a busy machine is busy for both; the ratio is taken pair by
pair. On a busy machine the fastest blocks tell more of a quiet one than the medians: threads that
wait for one another wait for whatever else runs. With BLAS at one thread already nothing is paid.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.duel import quartiles
from benchmarks.scaling import Step, step
from rsam_backends import current_backend, deterministic
from rsam_ref import models

STEPS: dict[str, Callable[[], Step]] = {
    "mlp 784-1024-1024-10, batch 128": lambda: step(models.mlp([784, 1024, 1024, 10]), 128, (784,)),
    "cnn, batch 128": lambda: step(models.cnn(), 128, (1, 28, 28)),
}


def seconds(run: Step, steps: int, block: AbstractContextManager[Any]) -> float:
    """The time of a step in a block of some."""
    with block:
        began = time.perf_counter()
        for _ in range(steps):
            run()
        return (time.perf_counter() - began) / steps


def main(
    blocks: Annotated[int, typer.Option(help="Pairs of blocks.")] = 100,
    steps: Annotated[int, typer.Option(help="Steps in a block.")] = 1,
) -> None:
    """Print a step's time without and with, median and fastest, and the ratios' quartiles."""
    console = Console()
    console.print(current_backend().describe()["BLAS"], highlight=False)
    table = Table("R-SAM's step", "without, ms", "with, ms", "fastest", "with / without, quartiles")
    for name, make in STEPS.items():
        run = make()
        seconds(run, 2, nullcontext())
        pairs = []
        for i in range(blocks):
            both = {}
            for fixed in (False, True) if i % 2 else (True, False):
                block = deterministic() if fixed else nullcontext()
                both[fixed] = seconds(run, steps, block)
            pairs.append((both[False], both[True]))
        medians = [f"{1000 * statistics.median(column):.1f}" for column in zip(*pairs)]
        fastest = ", ".join(f"{1000 * min(column):.1f}" for column in zip(*pairs))
        ratios = ", ".join(f"{ratio:.2f}" for ratio in quartiles([b / a for a, b in pairs]))
        table.add_row(name, *medians, fastest, ratios)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
