"""Does R-SAM help? SGD, SAM, 2-step SAM and R-SAM on several problems, tuned alike.

    python -m benchmarks.study --fashion DIR --cifar DIR --minutes 50
    python -m benchmarks.study --resume --fashion DIR --cifar DIR     # goes on, until all is done
    python -m benchmarks.study --cluster tcp://HOST:PORT ...          # on a Dask cluster

Each problem is posed with clean labels and with 20 and 40 % of the training labels replaced by
random ones. Every method has one setting that is tuned, the radius rho, for SGD the learning rate,
over seven values with two seeds each, on validation samples; the value with the best mean is then
run with five fresh seeds, whose test accuracies are compared seed by seed. Finished runs are kept
in --out (by default docs/study, where those of the page lie), and the tables of its README.md are
made anew; everything is a function of its seed.
"""

from __future__ import annotations

import csv
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.pages import put_between
from rsam_ref import models
from rsam_ref.algorithms.base import SGD
from rsam_ref.algorithms.schedules import cosine
from rsam_ref.commands.terminal import progress_bar, say
from rsam_ref.data import digits_split, load_dataset
from rsam_ref.data.digits import Split
from rsam_ref.figures import COLOURS, STYLE, save
from rsam_ref.training.comparison import METHODS
from rsam_ref.training.engines import CarryOut, engine
from rsam_ref.training.loop import DivergedError, evaluate, train
from rsam_ref.training.statistics import paired_interval
from rsam_ref.training.trials import Store, Trial

CHOSEN = ("sgd", "sam", "sam2", "rsam")
NOISES = (0.0, 0.2, 0.4)
RHOS = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
RATES = (0.0018, 0.0043, 0.01, 0.023, 0.055, 0.13, 0.3)
TUNING_SEEDS = (1000, 1001)
SEEDS = (0, 1, 2, 3, 4)
SIGMA, LAM = 5e-4, 2.0  # the public code's; sigma rises fivefold over a run


@dataclass(frozen=True)
class Problem:
    """Data, a network, and how long it is trained."""

    data: str
    make: Callable[[int], Any]
    """A model from a seed."""
    epochs: int
    train: int = 0
    """Samples to train on and half as many to choose with; 0 for the digits' own split."""
    lr: float = 0.1
    batch_size: int = 64


PROBLEMS = {
    "digits-mlp": Problem("digits", lambda seed: models.mlp([64, 256, 256, 10], seed=seed), 40),
    "fashion-cnn": Problem("fashion", lambda seed: models.cnn(width=16, seed=seed), 10, 2000, 0.05),
    "cifar16-resnet20": Problem(
        "cifar16", lambda seed: models.resnet20(seed=seed), 10, 2000, 0.05, 32
    ),
    "cifar-vit_tiny": Problem(
        "cifar",
        lambda seed: models.vit_tiny(image_size=32, patch=8, depth=2, classes=10, seed=seed),
        *(10, 2000, 0.02, 32),
    ),
}


@dataclass(frozen=True)
class Case:
    """A problem with a share of its training labels replaced; a `Store` keeps its runs."""

    problem: str
    label_noise: float
    folder: str
    """Where the data are."""

    @property
    def name(self) -> str:
        return f"{self.problem}-{round(100 * self.label_noise)}"

    def key(self) -> Settings:
        p = PROBLEMS[self.problem]
        return Settings(
            self.problem, self.label_noise, p.epochs, p.train, p.lr, p.batch_size, SIGMA, LAM
        )


@dataclass(frozen=True)
class Settings:
    """What decides a case's runs; runs of other settings are not taken for them."""

    problem: str
    label_noise: float
    epochs: int
    train: int
    lr: float
    batch_size: int
    sigma: float
    lam: float


def split_of(case: Case, seed: int) -> Split:
    """Training samples with some labels replaced, validation and test samples with none."""
    problem = PROBLEMS[case.problem]
    if problem.data == "digits":
        return digits_split(seed, case.label_noise)
    data = load_dataset(case.folder)
    rng = np.random.default_rng((seed, 11))
    n = problem.train
    order = rng.permutation(len(data.train))
    chosen, rest = order[:n], order[n : n + n // 2]
    labels = data.train.labels[chosen].copy()
    wrong = rng.permutation(n)[: round(case.label_noise * n)]
    labels[wrong] = rng.integers(0, len(data.classes), len(wrong))
    tested = np.arange(len(data.test))
    shrink = halved if problem.data == "cifar16" else np.asarray
    return Split(
        *(shrink(data.train.take(chosen)), labels),
        *(shrink(data.train.take(rest)), data.train.labels[rest]),
        *(shrink(data.test.take(tested)), data.test.labels),
    )


def halved(images: Any) -> Any:
    """Images (N, C, H, W) at half the height and width: every 2 x 2 pixels become their mean."""
    n, c, h, w = images.shape
    return images.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def execute(case: Case, run: Trial) -> dict[str, Any]:
    """Train and evaluate one run."""
    start = time.process_time()
    problem, split = PROBLEMS[case.problem], split_of(case, run.seed)
    steps = problem.epochs * math.ceil(len(split.x_train) / problem.batch_size)
    model = problem.make(run.seed)
    rate = run.value if run.method == "sgd" else problem.lr
    base = SGD(cosine(rate, steps), momentum=0.9, weight_decay=5e-4)
    knobs = {"rho": run.value, "sigma": SIGMA, "lam": LAM}
    optimizer = METHODS[run.method].make(base, knobs, steps, run.seed)
    diverged = ""
    try:
        train(
            model,
            optimizer,
            split.x_train,
            split.y_train,
            epochs=problem.epochs,
            batch_size=problem.batch_size,
            seed=run.seed,
        )
    except DivergedError as error:
        diverged = str(error)
    return {
        "method": run.method,
        "value": run.value,
        "seed": run.seed,
        "val_accuracy": evaluate(model, split.x_val, split.y_val).accuracy,
        "test_accuracy": evaluate(model, split.x_test, split.y_test).accuracy,
        "seconds": round(time.process_time() - start, 1),
        "diverged": diverged,
    }


def values(method: str) -> tuple[float, ...]:
    """What a method's setting is tuned over; as many values for every method."""
    return RATES if method == "sgd" else RHOS


def tuning(method: str) -> list[Trial]:
    return [Trial(method, value, seed) for value in values(method) for seed in TUNING_SEEDS]


def choice(method: str, finished: dict[Trial, dict[str, Any]]) -> float | None:
    """The value whose mean validation accuracy is best; None before all of them are known."""
    means: dict[float, float] = {}
    for run in tuning(method):
        if run not in finished:
            return None
        share = finished[run]["val_accuracy"] / len(TUNING_SEEDS)
        means[run.value] = means.get(run.value, 0.0) + share
    return max(means, key=lambda value: means[value])


class _TimeIsUpError(Exception):
    pass


def carry_out(case: Case, file: Store, by: CarryOut, stop_at: float, tell: Any) -> None:
    """Tune, then run the chosen values with fresh seeds."""

    def on_run(run: Trial, record: dict[str, Any]) -> None:
        tell(case, run)
        if time.monotonic() > stop_at:
            raise _TimeIsUpError

    def together(runs: list[Trial]) -> None:
        by(execute, case, runs, file, on_trial=on_run)

    together([run for method in CHOSEN for run in tuning(method)])
    final = []
    for method in CHOSEN:
        value = choice(method, file.finished)
        assert value is not None
        final += [Trial(method, value, seed) for seed in SEEDS]
    together(final)


def summary(case: Case, finished: dict[Trial, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a method: the chosen value, accuracy, differences to SGD and SAM; none if not done."""
    accuracies: dict[str, list[float]] = {}
    rows = []
    for method in CHOSEN:
        value = choice(method, finished)
        if value is None or any(Trial(method, value, seed) not in finished for seed in SEEDS):
            return []
        accuracies[method] = [
            100 * finished[Trial(method, value, seed)]["test_accuracy"] for seed in SEEDS
        ]
        row: dict[str, Any] = {
            "problem": case.problem,
            "label_noise": case.label_noise,
            "method": method,
            "chosen": value,
            "at_the_edge": value in (values(method)[0], values(method)[-1]),
            "accuracy": statistics.fmean(accuracies[method]),
            "deviation": statistics.stdev(accuracies[method]),
        }
        for other in ("sgd", "sam"):
            if other in accuracies and other != method:
                interval = paired_interval(accuracies[method], accuracies[other])
                row |= {
                    f"against_{other}": interval.mean,
                    f"against_{other}_low": interval.low,
                    f"against_{other}_high": interval.high,
                }
        rows.append(row)
    return rows


def results(out: Path) -> tuple[list[dict[str, Any]], float]:
    """The rows of all cases that are done, and the core hours of all runs in ``out``."""
    rows, seconds = [], 0.0
    for case in [Case(problem, noise, "") for problem in PROBLEMS for noise in NOISES]:
        finished = Store(out / f"{case.name}.jsonl", case.key()).finished
        rows += summary(case, finished)
        seconds += sum(record["seconds"] for record in finished.values())
    return rows, seconds / 3600


def figure(rows: list[dict[str, Any]]) -> Figure:
    """Each method's difference to SGD, with its interval: a panel a problem."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(1.2 + 3.4 * len(problems), 3.6), layout="constrained")
        panels = drawn.subplots(1, len(problems), squeeze=False)[0]
        for axes, problem in zip(panels, problems):
            for i, method in enumerate(CHOSEN[1:]):
                own = [r for r in rows if (r["problem"], r["method"]) == (problem, method)]
                axes.errorbar(
                    [NOISES.index(r["label_noise"]) + 0.16 * (i - 1) for r in own],
                    [r["against_sgd"] for r in own],
                    yerr=[r["against_sgd_high"] - r["against_sgd"] for r in own],
                    fmt="o",
                    color=COLOURS[method],
                    capsize=3,
                    label=METHODS[method].label,
                )
            axes.axhline(0, color="black", lw=1)
            axes.set_xticks(range(len(NOISES)), [f"{noise:.0%}" for noise in NOISES])
            axes.set(title=problem, xlabel="training labels replaced", xlim=(-0.5, 2.5))
        panels[0].set_ylabel("test accuracy less SGD's (points)")
        drawn.suptitle("Differences to SGD, each tuned alike; 95 % interval over five seeds")
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return drawn


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("problem", "noise", "method", "chosen", "test (%)", "against SGD", "against SAM")
    for row in rows:
        differences = [
            f"{row[f'against_{o}']:+.1f} "
            f"[{row[f'against_{o}_low']:+.1f}, {row[f'against_{o}_high']:+.1f}]"
            if f"against_{o}" in row
            else ""
            for o in ("sgd", "sam")
        ]
        table.add_row(
            row["problem"],
            f"{row['label_noise']:.0%}",
            METHODS[row["method"]].label,
            f"{row['chosen']:g}" + (" (edge)" if row["at_the_edge"] else ""),
            f"{row['accuracy']:.1f} ± {row['deviation']:.1f}",
            *differences,
        )
    Console(width=None if sys.stdout.isatty() else 130).print(table)


PAIRS = (("sam", "sgd"), ("sam2", "sam"), ("rsam", "sgd"), ("rsam", "sam"))
MARKS = "<!-- made by benchmarks.study: begin -->\n", "<!-- made by benchmarks.study: end -->"


def verdict(row: dict[str, Any], other: str) -> str:
    """What the 95 % interval of a difference says."""
    if row[f"against_{other}_low"] > 0:
        return "wins"
    return "loses" if row[f"against_{other}_high"] < 0 else "ties"


def tables(rows: list[dict[str, Any]], hours: float) -> str:
    """The page's numbers in Markdown: who wins, then accuracies and differences, by problem."""
    names = {method: METHODS[method].label for method in CHOSEN}
    by_case: dict[tuple[str, float], dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_case.setdefault((row["problem"], row["label_noise"]), {})[row["method"]] = row
    lines = ["| | wins | ties | loses |", "|---|---|---|---|"]
    for method, other in PAIRS:
        said = [verdict(case[method], other) for case in by_case.values()]
        counts = " | ".join(str(said.count(word)) for word in ("wins", "ties", "loses"))
        lines.append(f"| {names[method]} against {names[other]} | {counts} |")
    for problem in dict.fromkeys(problem for problem, _ in by_case):
        cases = {noise: case for (name, noise), case in by_case.items() if name == problem}
        heads = [f"{names[m]} ({'lr' if m == 'sgd' else 'rho'})" for m in CHOSEN]
        lines += ["", f"| {problem}, labels replaced | " + " | ".join(heads) + " |"]
        lines.append("|---" * (1 + len(heads)) + "|")
        for noise, case in cases.items():
            cells = [
                f"{r['accuracy']:.1f} ± {r['deviation']:.1f} "
                f"({r['chosen']:.2g}{', edge' if r['at_the_edge'] else ''})"
                for r in (case[m] for m in CHOSEN)
            ]
            lines.append(f"| {100 * noise:.0f} % | " + " | ".join(cells) + " |")
        heads = [f"{names[m]} less {names[other]}" for m, other in PAIRS]
        lines += ["", f"| {problem}, points | " + " | ".join(heads) + " |"]
        lines.append("|---" * (1 + len(heads)) + "|")
        for noise, case in cases.items():
            cells = [
                f"{case[m][f'against_{o}']:+.1f} "
                f"[{case[m][f'against_{o}_low']:+.1f}, {case[m][f'against_{o}_high']:+.1f}] "
                f"{verdict(case[m], o)}"
                for m, o in PAIRS
            ]
            lines.append(f"| {100 * noise:.0f} % | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Machine time of all runs: {hours:.1f} core hours.", ""])


def fill(page: Path, text: str) -> None:
    """Put the tables between the page's marks; what stands around them is written by people."""
    if not page.exists():
        page.write_text("\n".join(MARKS), encoding="utf-8")
    if MARKS[1] not in page.read_text(encoding="utf-8").partition(MARKS[0])[2]:
        raise typer.BadParameter(f"{page} lacks the marks between which the tables stand")
    put_between(page, MARKS, f"\n{text}\n")


def write(out: Path, rows: list[dict[str, Any]], hours: float) -> None:
    if not rows:
        return
    fill(out / "README.md", tables(rows, hours))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (out / "study.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    save(figure(rows), out / "study.png")


def main(
    fashion: Annotated[Path | None, typer.Option(help="Fashion-MNIST as IDX files.")] = None,
    cifar: Annotated[Path | None, typer.Option(help="CIFAR-10 in binary.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(PROBLEMS)}; repeatable.")
    ] = None,
    noise: Annotated[
        list[float] | None, typer.Option(help=f"{', '.join(map(str, NOISES))}; repeatable.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Start no run after so many.")] = math.inf,
    jobs: Annotated[int, typer.Option(help="Runs at a time.", min=1)] = os.cpu_count() or 1,
    cluster: Annotated[
        str | None, typer.Option(help="A Dask cluster: tcp://HOST:PORT, or local.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where runs and results are.")] = Path("docs/study"),
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Keep the runs that are there.")
    ] = True,
) -> None:
    if unknown := set(only or ()) - PROBLEMS.keys():
        raise typer.BadParameter(f"there is no problem {sorted(unknown)[0]!r}")
    if other := set(noise or ()) - set(NOISES):
        raise typer.BadParameter(f"the label noise is one of {NOISES}, not {min(other)}")
    out.mkdir(parents=True, exist_ok=True)
    fashion, cifar = (path and path.resolve() for path in (fashion, cifar))  # as workers see them
    folders = {"digits": "digits", "fashion": fashion, "cifar": cifar, "cifar16": cifar}
    cases = [
        Case(name, share, str(folders[p.data]))
        for name, p in PROBLEMS.items()
        for share in NOISES
        if name in (only or PROBLEMS) and share in (noise or NOISES)
    ]
    stop_at = time.monotonic() + 60 * minutes
    files = {case: Store(out / f"{case.name}.jsonl", case.key()) for case in cases}
    if not resume:
        for file in files.values():
            file.path.unlink(missing_ok=True)
            file.finished.clear()
    console = Console()
    with engine(cluster, jobs, tell=say) as by, progress_bar() as progress:
        runs = len(RHOS) * len(TUNING_SEEDS) + len(SEEDS)
        task = progress.add_task("runs", total=len(cases) * len(CHOSEN) * runs)
        progress.update(task, completed=sum(len(file.finished) for file in files.values()))

        def tell(case: Case, run: Trial) -> None:
            progress.update(task, advance=1, description=f"{case.name} {run.method}")

        try:
            for case, file in files.items():
                if folders[PROBLEMS[case.problem].data] is None:
                    console.print(f"{case.name}: not run, no folder was given")
                    continue
                carry_out(case, file, by, stop_at, tell)
        except (_TimeIsUpError, KeyboardInterrupt):
            console.print("Stopped; the finished runs are kept. The same command goes on.")
    rows, hours = results(out)
    show(rows)
    console.print(f"Machine time of all runs: {hours:.2f} core hours")
    write(out, rows, hours)


if __name__ == "__main__":
    typer.run(main)
