"""`rsam-ref summary`: several runs in one table and one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.measure import Measurement
from rich.table import Table

from rsam_ref.commands.terminal import console, fail, say, usage_errors

Option = typer.Option
PICTURES = (".png", ".svg", ".pdf")


def summary(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUNS...", help="Runs of rsam-ref train, or folders of runs."),
    ],
    save: Annotated[
        list[Path] | None,
        Option(metavar="FILE", help="A .csv table or a .png, .svg, .pdf of curves; repeatable."),
    ] = None,
) -> None:
    """Compare runs: the settings they differ in, and mean and interval of the test over seeds.

    Runs that differ in their seed alone are one row, with Student's 95 % interval for the mean.
    The test is that at the end of a run, on the samples held out where there are some; runs that
    diverged, and runs that are not finished, are told and do not count.
    """
    from rsam_ref.training.summary import groups_of, runs_in

    with usage_errors():
        for path in save or []:
            if path.suffix.lower() not in (".csv", *PICTURES):
                raise ValueError(f"--save {path}: name it *.csv, *.png, *.svg or *.pdf")
    found = runs_in(runs, fail)
    groups = groups_of([run for run in found if run.finished and not run.diverged])
    if groups:
        _show(groups)
    for run in found:
        if run.diverged:
            say(
                f"{run.folder} diverged ({run.diverged}): a result, but one without a figure, so "
                "no row counts it."
            )
        elif not run.finished:
            of = f" of {run.steps}" if run.steps else ""
            say(f"{run.folder} is not finished (step {run.step}{of}) and does not count.")
    for group in groups:
        for run in group.again:
            say(f"{run.folder} has seed {run.recipe.seed} once more, and does not count.")
    counted = [group for group in groups if group.done]
    for path in save or []:
        if not counted:
            raise ValueError(f"{path}: there is nothing to write: no run is finished")
        _save(path, counted)
        say(f"Wrote {path}")


def _figures(group: Any) -> list[str]:
    """Accuracy and loss with their intervals, and the mean time."""
    told = []
    for name, factor, form in (("test_accuracy", 100, ".2f"), ("test_loss", 1, ".4f")):
        centre, half = group.interval(name)
        more = "" if half is None else f" ± {factor * half:{form}}"
        told.append(f"{factor * centre:{form}}{more}")
    seconds = [run.rows[-1]["seconds"] for run in group.done]
    return [*told, f"{sum(seconds) / len(seconds):.0f} s"]


def _show(groups: list[Any]) -> None:
    """A column for every setting; a line for each row where the terminal is too narrow for that."""
    from rsam_ref.training.summary import in_words

    names = list(dict.fromkeys(name for group in groups for name in group.differs))
    rows = [[in_words(group.differs.get(name, "-")) for name in names] for group in groups]
    table = _table(names, rows, groups)
    unbounded = console.options.update(width=10_000)
    if Measurement.get(console, unbounded, table).maximum > console.width:
        for group, row in zip(groups, rows):
            told = [f"{name} {value}" for name, value in zip(names, row) if value != "-"]
            say(f"{_label(group)}: {', '.join(told)}")
        say("")
        table = _table([], [[] for _ in groups], groups)
    console.print(table, markup=False, highlight=False)


def _table(headings: list[str], rows: list[list[str]], groups: list[Any]) -> Table:
    """Runs, what they differ in, and what came out."""
    table = Table("runs", box=None, pad_edge=False)
    for name in headings:
        table.add_column(name, no_wrap=True)
    parts = {group.part for group in groups}
    of = f"{parts.pop()} " if len(parts) == 1 else ""
    if not of:
        table.add_column("samples", no_wrap=True)
    for name in ("seeds", f"{of}accuracy (%)", f"{of}loss", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for group, row in zip(groups, rows):
        figures = _figures(group) if group.done else ["-", "-", "-"]
        samples = [] if of else [group.part]
        table.add_row(_label(group), *row, *samples, str(len(group.done)), *figures)
    return table


def _label(group: Any) -> str:
    first, *others = (run.folder.name for run in group.runs)
    return f"{first} and {len(others)} more" if others else first


def _save(path: Path, groups: list[Any]) -> None:
    from rsam_ref.figures import save
    from rsam_ref.files import write_table
    from rsam_ref.training.figures import summary_figure

    if path.suffix.lower() in PICTURES:
        save(summary_figure(groups), path)
        return
    names = list(dict.fromkeys(name for group in groups for name in group.differs))
    parts = [part for part in ("validation", "test") if any(g.part == part for g in groups)]
    columns = [f"{part}_{name}" for part in parts for name in ("accuracy", "loss")]
    rows = (
        [
            run.folder,
            *(group.differs.get(name) for name in names),
            run.recipe.seed,
            *_cells(group.part, run.tests[-1], columns),
            run.tests[-1]["seconds"],
        ]
        for group in groups
        for run in group.done
    )
    write_table(path, ["run", *names, "seed", *columns, "seconds"], rows)


def _cells(part: str, test: dict[str, Any], columns: list[str]) -> list[Any]:
    """A test in the columns of its part; the others are left empty."""
    own = {f"{part}_{name}": test[f"test_{name}"] for name in ("accuracy", "loss")}
    return [own.get(column) for column in columns]
