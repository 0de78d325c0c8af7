"""How the time of a step grows: with the batch, the width, the depth, the image, the threads.

    python -m benchmarks.scaling --out runs/scaling

A step that does work in proportion to x^k takes time in proportion to x^k once that work outweighs
what every op costs anyway. For each series the exponent is the slope of log time over log x in its
upper half, and stands beside the one that the arithmetic gives. The points of a series take turns.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.duel import cores, quartiles
from rsam_ref import RSAM, SGD, models, objective
from rsam_ref.models.resnet import cifar_resnet
from rsam_ref.training.profiling import random_batch

Step = Callable[[], Any]


@dataclass(frozen=True)
class Series:
    """Steps at several values of one quantity."""

    name: str
    what: str
    values: tuple[int, ...]
    make: Callable[[int], Step]
    expected: float


def step(model: Any, batch: int, shape: tuple[int, ...], threads: int | None = None) -> Step:
    """R-SAM's step of a model on random samples."""
    optimizer = RSAM(SGD(0.01, momentum=0.9))
    x, y = random_batch(batch, shape, 10)

    def run() -> None:
        optimizer.step(objective(model, x, y), model.weights.flat)

    def on_threads() -> None:
        with at_most(threads):
            run()

    return run if threads is None else on_threads


@contextmanager
def at_most(threads: int | None) -> Iterator[None]:
    """So many threads for the kernels and for BLAS."""
    from threadpoolctl import threadpool_limits

    from rsam_backends.threads import set_threads

    set_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        set_threads(None)


SMALL = (3, 32, 32)


def thread_counts() -> tuple[int, ...]:
    """1, 2, 4, ... up to the cores."""
    return tuple(2**i for i in range(int(math.log2(cores())) + 1))


def all_series() -> list[Series]:
    return [
        Series(
            "batch",
            "cnn: samples in a batch",
            (8, 16, 32, 64, 128, 256),
            lambda n: step(models.cnn(), n, (1, 28, 28)),
            1,
        ),
        Series(
            "width",
            "mlp 784-W-W-10, batch 128: W",
            (128, 256, 512, 1024, 2048),
            lambda w: step(models.mlp([784, w, w, 10]), 128, (784,)),
            2,
        ),
        Series(
            "depth",
            "CIFAR ResNet, batch 32: blocks",
            (3, 6, 9, 18),
            lambda blocks: step(cifar_resnet(2 * blocks + 2, classes=10), 32, SMALL),
            1,
        ),
        Series(
            "image",
            "resnet20, batch 16: pixels of a side",
            (16, 32, 64, 128),
            lambda side: step(models.resnet20(), 16, (3, side, side)),
            2,
        ),
        Series(
            "threads",
            "resnet20, batch 64: threads",
            thread_counts(),
            lambda n: step(models.resnet20(), 64, SMALL, threads=n),
            -1,
        ),
    ]


def measure(series: Series, rounds: int) -> dict[int, list[float]]:
    """Seconds of a step at every value, so many times in turn."""
    steps = {value: series.make(value) for value in series.values}
    for run in steps.values():
        run()
    times: dict[int, list[float]] = {value: [] for value in steps}
    for _ in track(range(rounds), description=f"{series.name:>8}", console=Console(stderr=True)):
        for value, run in steps.items():
            start = time.perf_counter()
            run()
            times[value].append(time.perf_counter() - start)
    return times


def exponent(times: dict[int, float]) -> float:
    """The slope of log time over log value, by least squares over the upper half of the values."""
    values = sorted(times)[(len(times) - 1) // 2 :]
    x = [math.log(value) for value in values]
    y = [math.log(times[value]) for value in values]
    return statistics.linear_regression(x, y).slope if len(x) > 1 else math.nan


def figure(found: dict[Series, dict[int, list[float]]]) -> Any:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    from rsam_ref.figures import STYLE

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 6.6), layout="constrained")
        axes = figure.subplots(2, 3).ravel()
        for ax, (series, times) in zip(axes, found.items()):
            values = list(times)
            low, middle, high = zip(*(quartiles(times[value]) for value in values))
            milliseconds = [[1e3 * t for t in line] for line in (low, middle, high)]
            ax.fill_between(values, milliseconds[0], milliseconds[2], color="#0072B2", alpha=0.25)
            ax.plot(values, milliseconds[1], "o-", color="#0072B2", label="median, quartiles")
            last = milliseconds[1][-1]
            line = [last * (value / values[-1]) ** series.expected for value in values]
            label = f"in proportion to $x^{{{series.expected:g}}}$"
            ax.plot(values, line, "--", color="black", lw=1, label=label)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_xticks(values, [str(value) for value in values])
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.minorticks_off()
            ax.yaxis.set_major_formatter("{x:g}")
            medians = dict(zip(values, middle))
            title = f"{series.name}: measured exponent {exponent(medians):.2f}"
            ax.set(xlabel=series.what, ylabel="R-SAM step (ms)", title=title)
            ax.legend(fontsize=8)
        for ax in axes[len(found) :]:
            ax.set_axis_off()
        return figure


def main(
    rounds: Annotated[int, typer.Option(help="Steps at every value.", min=1)] = 15,
    only: Annotated[
        list[str] | None, typer.Option(help="batch, width, depth, image or threads; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where scaling.csv and scaling.png go.")] = None,
) -> None:
    chosen = [series for series in all_series() if only is None or series.name in only]
    if wrong := set(only or []) - {series.name for series in chosen}:
        raise typer.BadParameter(f"there is no series {sorted(wrong)[0]!r}")
    found = {series: measure(series, rounds) for series in chosen}
    table = Table("series", "x", "steps (ms)", "exponent", "arithmetic")
    for series, times in found.items():
        medians = {value: statistics.median(t) for value, t in times.items()}
        table.add_row(
            series.name,
            series.what,
            ", ".join(f"{value}: {1e3 * t:.3g}" for value, t in medians.items()),
            f"{exponent(medians):.2f}",
            f"{series.expected:g}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    if out is None:
        return
    from rsam_ref import figures as plot

    out.mkdir(parents=True, exist_ok=True)
    with (out / "scaling.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["series", "value", "low_ms", "median_ms", "high_ms"])
        for series, times in found.items():
            for value, t in times.items():
                writer.writerow([series.name, value, *(f"{1e3 * q:.4g}" for q in quartiles(t))])
    plot.save(figure(found), out / "scaling.png")


if __name__ == "__main__":
    typer.run(main)
