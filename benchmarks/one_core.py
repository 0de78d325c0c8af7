"""Whole training steps on one core, in the processor's time: for a machine that has other work.

    python -m benchmarks.one_core [--models mlp,cnn] [--methods sgd,rsam] [--former FOLDER]

All contestants of a step stand by, each in a process of its own on one core with one thread, and
take turns; seconds are those that the process had the core. So what a step costs can be compared
while the machine has other work; how well it uses several cores, steps.py tells. ``--former`` is a
checkout of ours as it was, whose step with its NumPy kernels is timed in the same turns.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.duel import PEERS, Case, Worker, quartiles
from benchmarks.steps import BATCHES, METHODS, chosen

OURS = {"ours_cpu": "NumPy kernels", "ours_onednn_cpu": "oneDNN"}
FORMER = "the former build"
SECONDS = 0.3
"""How long a turn is to be at least."""


def peers_of(model: str) -> list[str]:
    images = ["torch_cpu_last"] if model in ("cnn", "resnet20") else []
    return ["torch_cpu", *images, *(["jax_cpu"] if model in ("mlp", "cnn") else []), "limit_cpu"]


def taken(workers: dict[str, Worker], turns: int) -> dict[str, list[float]]:
    """Seconds of the processor a step, of every worker that is installed, in every turn."""
    workers = {name: w for name, w in workers.items() if "absent" not in w.ask()}
    steps = {}
    for name, worker in workers.items():
        worker.run(2)  # what is made once
        steps[name] = max(1, int(SECONDS / worker.run(1)))
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(turns):
        for name, worker in workers.items():
            times[name].append(worker.run(steps[name]))
    return times


def started(model: str, size: int, method: str, former: Path | None) -> dict[str, Worker]:
    """A worker for each contestant, by its name in the table."""
    target = Case(model, size, method, "ours_cpu", "torch_cpu").target
    names = {**OURS, **{who: PEERS[who] for who in peers_of(model)}}
    workers = {
        name: Worker(target(who), sys.executable, one_core=True) for who, name in names.items()
    }
    if former is not None:
        workers[FORMER] = Worker(target("ours_cpu"), sys.executable, folder=former, one_core=True)
    return workers


def rows(times: dict[str, list[float]]) -> list[tuple[str, ...]]:
    """Each contestant's ms, and the time of each of our kernel sets by its own, with quartiles."""
    found = []
    for name, seconds in times.items():
        cells = [name, f"{1e3 * statistics.median(seconds):.2f}"]
        for ours in OURS.values():
            text = ""
            if ours in times and name != ours:
                ratios = [a / b for a, b in zip(times[ours], seconds)]
                low, median, high = quartiles(ratios)
                text = f"{median:.2f} ({low:.2f} to {high:.2f})"
            cells.append(text)
        found.append(tuple(cells))
    return found


def main(
    models: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(BATCHES),
    methods: Annotated[str, typer.Option(help="Comma-separated.")] = "sgd,rsam",
    turns: Annotated[int, typer.Option(help="How often each takes its turn.", min=1)] = 7,
    former: Annotated[
        Path | None, typer.Option(help="A checkout to be compared with.", exists=True)
    ] = None,
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    if former is not None and not (former / "benchmarks" / "contestants.py").exists():
        raise typer.BadParameter(f"{former} is no checkout: it has no benchmarks/contestants.py")
    for model in chosen(models, list(BATCHES), "model"):
        for size in BATCHES[model]:
            for method in chosen(methods, METHODS, "method"):
                workers = started(model, size, method, former and former.resolve())
                try:
                    with console.status(f"{model}, batch {size}, {method}"):
                        times = taken(workers, turns)
                finally:
                    for worker in workers.values():
                        worker.close()
                against = [f"{name} / this" for name in OURS.values()]
                title = f"{model}, batch {size}, {method}: one core, processor time"
                table = Table("contestant", "ms a step", *against, title=title)
                for cells in rows(times):
                    table.add_row(*cells)
                console.print(table)


if __name__ == "__main__":
    try:
        typer.run(main)
    except KeyboardInterrupt:
        print("Interrupted; the tables above are whole.", file=sys.stderr)
        sys.exit(1)
