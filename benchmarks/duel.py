"""Timing two contestants fairly on a noisy machine: in turn, many times, as a ratio.

Each contestant lives in a process of its own, so that the idle threads of one library do not spin
on the cores that the other needs. The blocks alternate A B A B ...; each pair of neighbouring
blocks gives one ratio, and the median of the ratios with its quartiles is what counts: a machine
that slows down slows both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass

WORKER = """
import importlib, sys, time
module, name = sys.argv[1].split(":")
step = getattr(importlib.import_module(module), name)()
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    times.sort()
    print(times[len(times) // 2], flush=True)
"""


@dataclass
class Result:
    """Seconds a step (medians of the blocks), and the ratio A / B with its quartiles."""

    a: float
    b: float
    ratio: float
    low: float
    high: float


class _Worker:
    def __init__(self, target: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, steps: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def duel(a: str, b: str, *, blocks: int = 15, seconds: float = 0.15) -> Result:
    """Time ``module:function`` against another; each function returns the step to be timed."""
    workers = [_Worker(a), _Worker(b)]
    try:
        for worker in workers:
            worker.run(2)  # kernels compile, pools fill
        steps = [max(1, int(seconds / worker.run(3))) for worker in workers]
        times = [[w.run(n) for w, n in zip(workers, steps)] for _ in range(blocks)]
    finally:
        for worker in workers:
            worker.close()
    ratios = [x / y for x, y in times]
    low, median, high = statistics.quantiles(ratios, n=4)
    return Result(
        statistics.median(x for x, _ in times),
        statistics.median(y for _, y in times),
        median,
        low,
        high,
    )


@dataclass(frozen=True)
class Case:
    """A step of a network by two contestants (see contestants.py)."""

    model: str
    size: int
    method: str
    a: str
    b: str

    def target(self, who: str) -> str:
        return f"benchmarks.contestants:{self.model}_{self.size}_{self.method}_{who}"


def show(cases: list[Case], machine: str, goal: float) -> None:
    """Run the cases and print their ratios."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    console = Console()
    console.print(machine, soft_wrap=True, highlight=False)
    columns = "step", "ours (ms)", "against", "(ms)", "ratio", "quartiles"
    table = Table(*columns, title=f"Time of a step, ours / theirs; the goal is {goal:g}")
    for case in track(cases, "timing", console=console):
        r = duel(case.target(case.a), case.target(case.b))
        table.add_row(
            f"{case.model}, batch {case.size}, {case.method}",
            f"{r.a * 1e3:.2f}",
            "PyTorch, channels last" if case.b.endswith("_last") else "PyTorch",
            f"{r.b * 1e3:.2f}",
            f"{r.ratio:.2f}",
            f"{r.low:.2f} to {r.high:.2f}",
        )
    console.print(table)
