"""`rsam-ref predict`: what a trained model takes pictures and arrays for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from rsam_ref.commands.terminal import (
    Run,
    console,
    errors,
    fail,
    progress_bar,
    say,
    usage_errors,
)

Option = typer.Option
SHOWN = 40


def predict(
    run: Run,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES...", help="Pictures, .npy or .npz files, folders of them."),
    ],
    top: Annotated[int, Option(help="Show so many classes of each.", min=1)] = 3,
    save: Annotated[
        Path | None,
        Option(metavar="FILE", help="Write all probabilities to this .csv or .json file."),
    ] = None,
) -> None:
    """Tell what a trained model takes pictures for, with the probability of each class.

    Pictures are brought to the model's inputs as the run's test pictures were. An array holds
    pictures (N, C, H, W), (N, H, W, C) or (N, H, W) with pixels as the training data hold them.
    A file that cannot be read is told, and the others are done; the exit code is 1 then.
    """
    from rsam_ref.data.inputs import files_in
    from rsam_ref.training.predictor import load_predictor

    with usage_errors():
        if save is not None and save.suffix.lower() not in (".csv", ".json"):
            raise ValueError(f"--save {save}: name it *.csv or *.json")
    predictor = load_predictor(run)
    classes = predictor.inputs.classes
    paths = list(files_in(files))
    rows: list[tuple[str, list[float]]] = []
    bad = 0
    with progress_bar(errors) as progress:
        for path in progress.track(paths, description="predicting"):
            try:
                samples = predictor.inputs.samples(path)
                found = predictor.probabilities(samples).tolist()
            except ValueError as error:  # of data: the other files are as good as before
                fail(str(error))
                bad += 1
                continue
            several = len(found) > 1
            rows += [(f"{path}[{i}]" if several else str(path), p) for i, p in enumerate(found)]
    if rows:
        _show(rows, classes, min(top, len(classes)))
        if save is not None:
            _save(save, rows, classes)
            say(f"Wrote the probabilities of {len(rows):,} pictures to {save}")
    if bad:
        fail(f"{bad} of {len(paths)} files could not be read; they are told above")
        raise typer.Exit(1)


def _ranked(probabilities: list[float]) -> list[int]:
    return sorted(range(len(probabilities)), key=lambda i: -probabilities[i])


def _show(rows: list[tuple[str, list[float]]], classes: tuple[str, ...], top: int) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("", justify="right")
    if top > 1:
        table.add_column("then", overflow="fold")
    for name, probabilities in rows[:SHOWN]:
        first, *others = [
            (classes[i], f"{100 * probabilities[i]:.1f} %") for i in _ranked(probabilities)[:top]
        ]
        table.add_row(name, *first, *([", ".join(map(" ".join, others))] if top > 1 else []))
    console.print(table, markup=False, highlight=False)
    if len(rows) > SHOWN:
        say(f"... and {len(rows) - SHOWN:,} more; --save FILE.csv writes all of them.")


def _save(path: Path, rows: list[tuple[str, list[float]]], classes: tuple[str, ...]) -> None:
    from rsam_ref.files import write_table, write_whole

    if path.suffix.lower() == ".json":
        told: list[dict[str, Any]] = [
            {
                "file": name,
                "class": classes[_ranked(probabilities)[0]],
                "probabilities": dict(zip(classes, probabilities)),
            }
            for name, probabilities in rows
        ]
        write_whole(path, (json.dumps(told, indent=2) + "\n").encode())
        return
    write_table(
        path,
        ["file", "class", *classes],
        ([name, classes[_ranked(p)[0]], *p] for name, p in rows),
    )
