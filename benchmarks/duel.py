"""Timing two contestants fairly on a noisy machine: in turn, many times, as a ratio.

Each contestant lives in a process of its own, so that the idle threads of one library do not spin
on the cores that the other needs. The blocks alternate A B A B ...; each pair of neighbouring
blocks gives one ratio, and the median of the ratios with its quartiles is what counts: a machine
that slows down slows both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RSAM_REF_THREADS")
"""What says how many threads a contestant has, whoever computes its products."""


class AbsentError(RuntimeError):
    """A contestant cannot run here. The message says what is missing."""


@dataclass
class Result:
    """Seconds a step (medians of the blocks), and the ratio A / B with its quartiles."""

    a: float
    b: float
    ratio: float
    low: float
    high: float
    ratios: list[float] = field(default_factory=list)
    """A / B of every pair of blocks."""
    memory: tuple[int, int] = (0, 0)
    """Bytes by which each process grew at its peak, from before its network was made."""
    versions: dict[str, str] = field(default_factory=dict)


ROOT = Path(__file__).parent.parent


class Worker:
    """A contestant's process; see worker.py for what is said to it.

    ``folder`` is the checkout whose contestant it is; ``one_core`` gives it one core, one thread
    and the processor's time.
    """

    def __init__(
        self, target: str, python: str, *, folder: Path = ROOT, one_core: bool = False
    ) -> None:
        self.target = target
        environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'backends'}"}
        if one_core:
            environment |= dict.fromkeys(THREADS, "1")
        self.process = subprocess.Popen(
            [python, "-P", ROOT / "benchmarks" / "worker.py", target, *["--one-core"] * one_core],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is the parent's affair
        )

    def ask(self, question: str = "") -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            if question:
                self.process.stdin.write(f"{question}\n")
                self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self.target} died, exit code {self.process.wait()}")
        return json.loads(answer)

    def run(self, steps: int) -> float:
        """Seconds a step: the median of so many."""
        return self.ask(str(steps))

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # in the middle of a long step
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def duel(
    a: str,
    b: str,
    *,
    blocks: int = 15,
    seconds: float = 0.15,
    pythons: tuple[str, str] = (sys.executable, sys.executable),
) -> Result:
    """Time ``module:function`` against another; each function returns the step to be timed.

    ``pythons`` are the interpreters that run them. Raises `AbsentError` where one cannot run.
    """
    workers: list[Worker] = []
    try:
        for target, python in zip((a, b), pythons):
            workers.append(Worker(target, python))
        answers = [worker.ask() for worker in workers]
        for answer in answers:
            if "absent" in answer:
                raise AbsentError(answer["absent"])
        for worker in workers:
            worker.run(2)  # kernels compile, pools fill
        steps = [max(1, int(seconds / worker.run(3))) for worker in workers]
        times = [[w.run(n) for w, n in zip(workers, steps)] for _ in range(blocks)]
        grown = [worker.ask("memory") for worker in workers]
    finally:
        for worker in workers:
            worker.close()
    ratios = [x / y for x, y in times]
    low, median, high = quartiles(ratios)
    return Result(
        statistics.median(x for x, _ in times),
        statistics.median(y for _, y in times),
        median,
        low,
        high,
        ratios,
        (grown[0], grown[1]),
        answers[0]["versions"] | answers[1]["versions"],
    )


def quartiles(ratios: list[float]) -> tuple[float, float, float]:
    if len(ratios) == 1:
        return ratios[0], ratios[0], ratios[0]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, median, high


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

    @property
    def step(self) -> str:
        """The step in words, with our kernels where they are not the usual ones."""
        kernels = self.a.removeprefix("ours_").rpartition("_")[0]
        return ", ".join(filter(None, (self.model, f"batch {self.size}", self.method, kernels)))

    def __str__(self) -> str:
        return f"{self.step}, against {PEERS[self.b]}"


PEERS = {
    "torch_cpu": "PyTorch",
    "torch_cpu_last": "PyTorch, channels last",
    "torch_cpu_compiled": "PyTorch, compiled",
    "torch_gpu": "PyTorch",
    "hips_cpu": "HIPS autograd",
    "jax_cpu": "JAX, jit",
    "tinygrad_cpu": "tinygrad, jit",
    "limit_cpu": "the limit: its products as one",
    "sgd_cpu": "our own SGD step",
    "ours_plain_cpu": "NumPy, plain",
}


def carry_out(
    cases: Iterable[Case],
    console: Console,
    *,
    blocks: int = 15,
    python_of: Callable[[str], str] = lambda who: sys.executable,
    on_result: Callable[[Case, Result], None],
) -> dict[Case, str]:
    """Time the cases, with their progress; returns those that could not run, and why."""
    cases = list(cases)
    absent: dict[Case, str] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("timing", total=len(cases))
        for case in cases:
            progress.update(task, description=str(case))
            try:
                result = duel(
                    case.target(case.a),
                    case.target(case.b),
                    blocks=blocks,
                    pythons=(python_of(case.a), python_of(case.b)),
                )
            except (AbsentError, RuntimeError) as error:
                absent[case] = str(error)
            else:
                on_result(case, result)
            progress.advance(task)
    return absent


def results_table(results: dict[Case, Result], title: str) -> Table:
    right = {"justify": "right", "no_wrap": True}
    table = Table(
        Column("step", no_wrap=True),
        "against",
        Column("ours (ms)", **right),
        Column("(ms)", **right),
        Column("ratio", **right),
        Column("quartiles", no_wrap=True),
        Column("memory", **right),
        title=title,
    )
    for case, r in results.items():
        ours, theirs = r.memory
        table.add_row(
            case.step,
            PEERS[case.b],
            f"{r.a * 1e3:.2f}",
            f"{r.b * 1e3:.2f}",
            f"{r.ratio:.2f}",
            f"{r.low:.2f} to {r.high:.2f}",
            f"{ours / theirs:.2f}" if theirs else "",
        )
    return table


def show(cases: list[Case], machine: str, goal: float) -> None:
    """Run the cases and print their ratios."""
    console = Console()
    console.print(machine, soft_wrap=True, highlight=False)
    results: dict[Case, Result] = {}
    absent = carry_out(cases, console, on_result=results.__setitem__)
    console.print(results_table(results, f"Time of a step, ours / theirs; the goal is {goal:g}"))
    tell_absent(absent, console)


def tell_absent(absent: dict[Case, str], console: Console) -> None:
    """A line for every reason why cases were left out."""
    for reason in dict.fromkeys(absent.values()):
        peers = {PEERS[case.b] for case in absent if absent[case] == reason}
        count = sum(why == reason for why in absent.values())
        console.print(
            f"Left out, {count} cases with {', '.join(sorted(peers))}: {reason}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
