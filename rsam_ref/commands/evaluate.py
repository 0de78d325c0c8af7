"""`rsam-ref evaluate`: how good a trained model is, class by class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from rsam_ref.commands.terminal import (
    Run,
    console,
    errors,
    progress_bar,
    say,
    usage_errors,
)

Option = typer.Option
CLASSES_SHOWN = 20
CONFUSIONS_SHOWN = 5


def evaluate(
    run: Run,
    data: Annotated[
        str | None,
        Option(help="A folder: a data set, or folders of pictures named like the classes."),
    ] = None,
    part: Annotated[str, Option(help="test, train or validation.")] = "test",
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="Where the files go.  [default: evaluation in the run]"),
    ] = None,
) -> None:
    """Accuracy, loss and what is confused with what, of a trained model on labelled data.

    Other data than the run's own must have its classes. They are brought to the model's inputs as
    the run's test samples were, and normalised by the run's statistics, not by their own. Writes
    evaluation.json, confusion.csv and confusion.png.
    """
    from rsam_ref.training.evaluation import evaluate_on, samples_for, write_evaluation
    from rsam_ref.training.predictor import load_predictor

    with usage_errors():
        if part not in ("test", "train", "validation"):
            raise ValueError(f"--part {part}: it is test, train or validation")
        if part == "validation" and data is not None:
            raise ValueError("--part validation is held out of a run's own data: drop --data")
    predictor = load_predictor(run)
    chosen = samples_for(predictor, data, part)
    for note in chosen.notes:
        say(f"Of the data: {note}.")
    with progress_bar(errors) as progress:
        task = progress.add_task("evaluating", total=len(chosen.samples))
        result = evaluate_on(
            predictor, chosen.samples, lambda done: progress.update(task, completed=done)
        )
    _tell(result, f"{run} on {chosen.name}")
    folder = run if run.is_dir() else run.parent
    own = data is None and part == "test"
    name = "evaluation" if own else f"evaluation-{chosen.name.replace(', ', '-').replace(' ', '-')}"
    target = out or folder / name
    write_evaluation(result, target, f"{folder.resolve().name} on {chosen.name}")
    say(f"Wrote evaluation.json, confusion.csv and confusion.png to {target}/")


def _tell(result: Any, title: str) -> None:
    low, high = (100 * end for end in result.interval)
    say(
        f"{title}: accuracy {100 * result.accuracy:.1f} % [{low:.1f}, {high:.1f}] of "
        f"{result.samples:,}, loss {result.loss:.4f}"
    )
    if lost := sum(result.unscored):
        say(f"{lost:,} samples have scores that are not finite, and count as wrong.")
    table = Table(box=None, pad_edge=False)
    for heading in ("class", "samples", "found", "right when named"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for i in sorted(range(len(result.classes)), key=lambda i: result.recall(i) or 0.0)[
        :CLASSES_SHOWN
    ]:
        shares = [
            "-" if share is None else f"{100 * share:.1f} %"
            for share in (result.recall(i), result.precision(i))
        ]
        table.add_row(result.classes[i], f"{result.support[i]:,}", *shares)
    console.print(table, markup=False, highlight=False)
    if (more := len(result.classes) - CLASSES_SHOWN) > 0:
        say(f"... and {more} classes that are found more often; evaluation.json has all.")
    for i, j, count in result.confused()[:CONFUSIONS_SHOWN]:
        say(f"{count:,} x {result.classes[i]} taken for {result.classes[j]}")
