"""Whether long normal draws are normal, by 10^8 numbers, and what they take.

    python -m benchmarks.draw

Each line is a statistic, what normal numbers would give, and how many standard errors lie between;
for the distribution as a whole it is Kolmogorov and Smirnov's p. Then the time of a number, by
NumPy's ziggurat and by `Stream`, in turn.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rsam_backends import Stream
from rsam_backends.random import FEW

DRAW = 1 << 22
"""Numbers of one draw."""
BINS = 1 << 16
"""Of equal probability. Between their edges the distribution function moves by 1.5e-5."""
TAILS = 3, 4, 5, 6


@dataclass(frozen=True)
class Line:
    """A statistic, its value for normal numbers, and the distance in standard errors."""

    name: str
    found: float
    expected: float
    errors: float


class Tally:
    """What is kept of the numbers."""

    def __init__(self) -> None:
        self.n = 0
        self.bins = np.zeros(BINS, np.int64)
        self.powers = np.zeros(5)
        self.beyond = dict.fromkeys(TAILS, 0)
        self.longest = 0.0
        self.products = dict.fromkeys(("pairs", "squares of pairs", "neighbours"), 0.0)
        self.pairs = 0

    def add(self, z: np.ndarray) -> None:
        """A draw; its numbers lie in blocks, whose halves are the sines and the cosines."""
        from scipy.special import ndtr

        from rsam_backends.random import BLOCK

        wide = z.astype(np.float64)
        self.n += z.size
        places = np.minimum((ndtr(wide) * BINS).astype(np.int64), BINS - 1)
        self.bins += np.bincount(places, minlength=BINS)
        self.powers += [float((wide**k).sum()) for k in range(5)]
        length = np.abs(wide)
        for tail in TAILS:
            self.beyond[tail] += int((length > tail).sum())
        self.longest = max(self.longest, float(length.max()))
        blocks = wide[: z.size // BLOCK * BLOCK].reshape(-1, 2, BLOCK // 2)
        sines, cosines = blocks[:, 0].reshape(-1), blocks[:, 1].reshape(-1)
        self.pairs += sines.size
        self.products["pairs"] += float(sines @ cosines)
        self.products["squares of pairs"] += float((sines**2 - 1) @ (cosines**2 - 1)) / 2
        self.products["neighbours"] += float(sines[1:] @ sines[:-1])

    def lines(self) -> list[Line]:
        """Moments, tails and correlations."""
        n = self.n
        moments = (("mean", 1, 0, 1), ("square", 2, 1, 2), ("cube", 3, 0, 15), ("fourth", 4, 3, 96))
        found = [
            _line(f"mean {name}" if k > 1 else name, self.powers[k] / n, value, variance / n)
            for name, k, value, variance in moments
        ]
        for tail, count in self.beyond.items():
            expected = n * math.erfc(tail / math.sqrt(2))
            found.append(_line(f"beyond {tail}", count, expected, expected))
        for name, total in self.products.items():
            found.append(_line(f"correlation of {name}", total / self.pairs, 0, 1 / self.pairs))
        return found

    def distance(self) -> tuple[float, float]:
        """The largest distance to the normal distribution function, and its p."""
        from scipy.special import kolmogorov

        steps = np.arange(1, BINS + 1) / BINS
        d = float(np.abs(np.cumsum(self.bins) / self.n - steps).max())
        return d, float(kolmogorov(d * math.sqrt(self.n)))


def _line(name: str, found: float, expected: float, variance: float) -> Line:
    return Line(name, found, expected, (found - expected) / math.sqrt(variance))


def draws(count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """So many draws, each of a stream of its own, as the steps of a run have them."""
    for i in range(count):
        yield np.asarray(Stream("draw", seed, i).normal(DRAW))


def nanoseconds(works: dict[str, Callable[[int], object]], size: int) -> dict[str, list[float]]:
    """Of a number, by each of the works on ``size`` of them, in turn 30 times."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for i in range(33):
        for name, work in works.items():
            start = time.perf_counter()
            work(i)
            times[name].append((time.perf_counter() - start) / size * 1e9)
    return {name: some[3:] for name, some in times.items()}


def show_times(console: Console) -> None:
    from rsam_backends.threads import set_threads, threads

    size, several = 269_322, threads()  # the weights of an MLP 784-256-256-10
    assert size > FEW

    def ours(count: int) -> Callable[[int], object]:
        def work(i: int) -> None:
            set_threads(count)
            Stream("draw", i).normal(size)

        return work

    works: dict[str, Callable[[int], object]] = {
        "NumPy's ziggurat": lambda i: np.random.default_rng(i).standard_normal(size, np.float32),
        "Stream, one thread": ours(1),
    }
    if several > 1:
        works[f"Stream, {several} threads"] = ours(several)
    table = Table("", "ns a number", "quartiles", title=f"Draws of {size:,} numbers")
    for name, times in nanoseconds(works, size).items():
        low, median, high = statistics.quantiles(times, n=4)
        table.add_row(name, f"{median:.1f}", f"{low:.1f} to {high:.1f}")
    set_threads(None)
    console.print(table)


def main(
    numbers: Annotated[float, typer.Option(help="How many to look at.", min=DRAW)] = 1e8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    console = Console()
    count = math.ceil(numbers / DRAW)
    tally = Tally()
    for z in track(draws(count, seed), "drawing", count, console=console, transient=True):
        tally.add(z)
    table = Table("", "found", "expected", "standard errors", title=f"{tally.n:,} numbers")
    for line in tally.lines():
        table.add_row(line.name, f"{line.found:.7g}", f"{line.expected:.7g}", f"{line.errors:+.2f}")
    console.print(table)
    distance, p = tally.distance()
    console.print(f"Kolmogorov-Smirnov: distance {distance:.2e}, p {p:.3f}")
    console.print(f"The longest: {tally.longest:.3f}")
    show_times(console)


if __name__ == "__main__":
    typer.run(main)
