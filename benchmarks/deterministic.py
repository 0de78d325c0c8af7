"""What `deterministic` costs: R-SAM's step of an MLP and of a CNN, with it and without, in turn.

    python -m benchmarks.deterministic

Blocks of the two take turns, so that a busy machine is busy for both; the ratio is taken pair by
pair. On one core, or with BLAS at one thread already, there is nothing to pay.
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
    blocks: Annotated[int, typer.Option(help="Pairs of blocks.")] = 30,
    steps: Annotated[int, typer.Option(help="Steps in a block.")] = 5,
) -> None:
    """Print the medians of a step's time without and with, and the ratios' quartiles."""
    console = Console()
    console.print(current_backend().describe()["BLAS"], highlight=False)
    table = Table("R-SAM's step", "without, ms", "with, ms", "with / without, quartiles")
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
        without, fixed_order = (1000 * statistics.median(column) for column in zip(*pairs))
        low, middle, high = quartiles([b / a for a, b in pairs])
        table.add_row(
            name, f"{without:.1f}", f"{fixed_order:.1f}", f"{low:.2f}, {middle:.2f}, {high:.2f}"
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
