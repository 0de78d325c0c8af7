"""The command ``rsam-ref between``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Column, Table

from rsam_ref.commands.terminal import (
    Backend,
    Kernels,
    NetworkBatchSize,
    NetworkData,
    NetworkForward,
    NetworkLoss,
    NetworkWeights,
    Threads,
    choose,
    console,
    fail,
    interrupted,
    progress_bar,
    say,
    usage_errors,
)

Option = typer.Option

UNMATCHED = (
    "Units are matched for MLPs alone, so a rise here may be no more than units in another order: "
)


def between(
    model: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="Two or three runs of rsam-ref train, or their files; or FILE.py:NAME.",
        ),
    ],
    path: Annotated[
        bool,
        Option("--path", help="The path through these in their order, or one run's checkpoints."),
    ] = False,
    samples: Annotated[int, Option(help="Of training and of test data each, so many.")] = 500,
    points: Annotated[
        int | None,
        Option(help="Places along a line, or each side of a plane.  [default: 25, 21]"),
    ] = None,
    margin: Annotated[
        float, Option(help="How far a plane goes beyond the models, as a share of their extent.")
    ] = 0.25,
    seed: Annotated[int, Option(help="Decides samples, and in which order units are matched.")] = 0,
    dtype: Annotated[str, Option(help="float64 or float32.")] = "float64",
    weights: NetworkWeights = None,
    data: NetworkData = None,
    batch_source: Annotated[
        str | None,
        Option("--batches-from", metavar="FILE.py:NAME", help="Or its own training batches."),
    ] = None,
    test_batches: Annotated[
        str | None,
        Option("--test-batches-from", metavar="FILE.py:NAME", help="And its test batches."),
    ] = None,
    loss: NetworkLoss = None,
    forward: NetworkForward = None,
    batch_size: NetworkBatchSize = 128,
    out: Annotated[Path, Option(metavar="DIR", help="Where the results go.")] = Path(
        "runs/between"
    ),
    backend: Backend = "numpy",
    kernels: Kernels = "fast",
    threads: Threads = None,
) -> None:
    """Ask for the loss between models of one architecture, on training and on test data.

    Of two models it is the straight line between their weights and the barrier on it, as they are
    and, for MLPs, with the second one's hidden units in the order that is nearest to the first's.
    Of three it is the plane through them, with their places and the mean of all three. With --path
    it is the plane of the two principal axes of a path, through several models in their order or
    through one run's checkpoints, with the share of the path that each axis has and how far every
    model lies from the plane. Runs are judged on the first one's data. Batch norm takes the
    statistics of the samples themselves. Nothing in the models changes. Ctrl-C keeps what was
    asked; the same command goes on from it.

    A network of PyTorch is FILE.py:NAME, as rsam-ref sharpness has it: one with several --weights,
    or several. Writes between.csv, between.json, between.png and between.svg.
    """
    from rsam_ref.commands.networks import Asked, is_network
    from rsam_ref.sharpness.kept import Kept

    with usage_errors():
        choose(backend, kernels, threads)
        targets = [str(name) for name in model if is_network(str(name))]
        _check_numbers(dtype, samples, points, margin, seed)
        asked = Asked(weights or [], data, batch_source, loss, forward, batch_size, dtype, threads)
        _check_models(model, targets, asked, test_batches, path)
    alike = _load(model, targets, asked, test_batches, samples, seed, path)
    for note in alike.notes:
        say(note)
    pictures, told = _pictures(alike, points, margin, seed, path)
    for note in told:
        say(note)
    out.mkdir(parents=True, exist_ok=True)
    rows = _ask(alike, pictures, Kept(out / "between.jsonl"))
    _write(out, alike, pictures, rows)
    _show(alike, pictures, rows)
    say(f"Wrote between.csv, between.json, between.png, between.svg to {out}/")


def _check_numbers(dtype: str, samples: int, points: int | None, margin: float, seed: int) -> None:
    from rsam_backends import Stream

    Stream("samples", seed)  # a seed that cannot be one is refused here
    if dtype not in ("float32", "float64"):
        raise ValueError(f"--dtype is float32 or float64, not {dtype}")
    if samples < 1:
        raise ValueError(f"--samples must be at least 1, not {samples}")
    if points is not None and points < 3:
        raise ValueError(f"--points must be at least 3, with a place between the ends: {points}")
    if not 0 <= margin < math.inf:
        raise ValueError(f"--margin is a finite share >= 0, not {margin}")


def _check_models(
    models: list[Path], targets: list[str], asked: Any, test_batches: str | None, path: bool
) -> None:
    """Raise ValueError for too few models, too many, or of both kinds."""
    from rsam_ref.commands.networks import check_asked

    if targets and len(targets) < len(models):
        run = next(str(name) for name in models if str(name) not in targets)
        raise ValueError(
            f"{run} is a run and {targets[0]} a network: bring the run's weights to the network, "
            "rsam-ref export, and give them by --weights"
        )
    check_asked(targets, asked)
    if test_batches is not None and (not targets or asked.batches is None):
        raise ValueError("--test-batches-from goes with --batches-from; --data has test data")
    count = max(len(models), len(asked.weights))
    if path and count > (1 if not targets else 0) and count < 3:
        raise ValueError(
            f"a path needs 3 models or more, in their order, not {count}; or one run that kept "
            "its checkpoints"
        )
    if not path and count == 1:
        raise ValueError(
            f"{models[0]} is one model: give two or three, or --path for one run's checkpoints"
        )
    if not path and count > 3:
        raise ValueError(
            f"{count} models: give two or three, or --path for a path through them in their order"
        )


def _load(
    models: list[Path],
    targets: list[str],
    asked: Any,
    test_batches: str | None,
    samples: int,
    seed: int,
    path: bool,
) -> Any:
    """The models. Exit code 1, after one line, where they cannot be had or be compared."""
    from rsam_ref.commands.alike import load_alike, load_runs
    from rsam_ref.commands.networks import NetworkError

    if targets:
        try:
            return load_alike(targets, asked, test_batches, samples=samples, seed=seed)
        except NetworkError as error:
            fail(str(error))
            raise typer.Exit(1) from None
    return load_runs(models, dtype=asked.dtype, samples=samples, seed=seed, path=path)


def _pictures(
    alike: Any, points: int | None, margin: float, seed: int, path: bool
) -> tuple[list[Any], list[str]]:
    """What is asked for, and what is to be told of it."""
    from rsam_ref.sharpness import between as pictures

    models, told = alike.models, []
    if together := alike.scored["train"].together:
        told.append(
            "Batch norm takes the statistics of the samples themselves, "
            f"{together} at a time: running ones fit one model's weights alone."
        )
    if path:
        return [pictures.path(models, points or 21, margin)], told
    variants = [(models, pictures.AS_THEY_ARE)]
    try:
        matched = pictures.with_matched_units(models, alike.scored["train"], seed=seed)
        if pictures.are_alike(matched, models):
            told.append("The units lie nearest in the order that they have: nothing to match.")
        else:
            variants.append((matched, pictures.MATCHED))
    except ValueError as error:
        why = f"{alike.architecture} is none." if "for MLPs" in str(error) else f"{error}."
        told.append(UNMATCHED + why)
    if len(models.names) == 2:
        return [pictures.line(of, units, points or 25) for of, units in variants], told
    return [pictures.plane(of, units, points or 21, margin) for of, units in variants], told


def _ask(alike: Any, pictures: list[Any], kept: Any) -> list[dict[str, Any]]:
    """The rows of all pictures. What is kept is not asked again; Ctrl-C ends in one line."""
    from rsam_ref.commands.alike import key_of
    from rsam_ref.sharpness.kept import finite

    rows: list[dict[str, Any]] = []
    parts = [
        (picture, data, name, places)
        for picture in pictures
        for data in alike.scored
        for name, places in picture.strips()
    ]
    with progress_bar() as progress:
        task = progress.add_task("asking", total=sum(len(places) for *_, places in parts))
        try:
            for picture, data, name, places in parts:
                key = key_of(alike, data, name, places)
                found = kept.get(key)
                if found is None:
                    progress.update(task, description=f"{picture.units}, {data}")
                    found = []
                    for row in picture.scored(places, data, alike.scored[data]):
                        found.append(finite(row))
                        progress.advance(task)
                    kept.add(key, found)
                else:
                    progress.advance(task, len(places))
                rows.extend(found)
        except KeyboardInterrupt:
            progress.stop()
            raise interrupted(
                "stopped; what was asked is kept, and the same command goes on from it"
            ) from None
    return rows


def _write(out: Path, alike: Any, pictures: list[Any], rows: list[dict[str, Any]]) -> None:
    from rsam_ref.figures import save
    from rsam_ref.files import write_table, write_whole
    from rsam_ref.sharpness.between import COLUMNS, summary
    from rsam_ref.sharpness.between_figures import line_figure, plane_figure

    write_table(out / "between.csv", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    kind = pictures[0].kind
    told = {
        "picture": kind,
        "models": [
            {"name": name, "path": path} for name, path in zip(alike.models.names, alike.paths)
        ],
        "distances": {picture.units: picture.models.distances() for picture in pictures},
        "batch_statistics_of": alike.scored["train"].together,
    }
    if kind == "line":
        told["barriers"] = summary(rows)
    if kind == "path":
        told["shares"] = pictures[0].shares
        told["apart"] = pictures[0].apart
    told["rows"] = rows
    write_whole(out / "between.json", (json.dumps(told, indent=1) + "\n").encode())
    names = alike.models.names
    if kind == "line":
        figure = line_figure(rows, names)
    elif kind == "plane":
        figure = plane_figure(rows, f"The plane through {names[0]}, {names[1]} and {names[2]}")
    else:
        first, second = (100 * share for share in pictures[0].shares[:2])
        figure = plane_figure(
            rows, f"Along the path: axes of {first:.0f} % and {second:.0f} % of its variance"
        )
    for ending in ("png", "svg"):
        save(figure, out / f"between.{ending}")


def _show(alike: Any, pictures: list[Any], rows: list[dict[str, Any]]) -> None:
    for picture in pictures:
        of = [row for row in rows if row["units"] == picture.units]
        if picture.kind == "line":
            console.print(_barriers(picture, of))
        else:
            console.print(_places(picture, of, alike))


def _barriers(picture: Any, rows: list[dict[str, Any]]) -> Table:
    """A row for each of training and test data: the ends, and the worst in between."""
    from rsam_ref.sharpness.between import summary

    a, b = picture.models.names
    table = Table(
        "data",
        *(Column(name, justify="right") for name in (f"loss of {a}", f"of {b}", "barrier", "at")),
        title=f"{a} to {b}, units {picture.units}: {picture.models.distances()[1]:.4g} apart",
        box=box.SIMPLE_HEAD,
    )
    found = summary(rows)
    if "lowest" in found[0]:
        for name in (f"accuracy of {a}", f"of {b}", "lowest", "at"):
            table.add_column(name, justify="right")
    for row in found:
        cells = [_number(value) for value in (*row["losses"], row["barrier"], row["where"])]
        if "lowest" in row:
            cells += [_percent(value) for value in (*row["accuracies"], row["lowest"])]
            cells.append(_number(row["lowest_where"]))
        table.add_row(row["data"], *cells)
    return table


def _places(picture: Any, rows: list[dict[str, Any]], alike: Any) -> Table:
    """A row a model: where it lies, and how good it is."""
    title = f"Places on the plane, units {picture.units}"
    if picture.kind == "path":
        first, second = (100 * share for share in picture.shares[:2])
        title = (
            f"Principal axes with {first:.1f} % and {second:.1f} % of the path's variance, and the "
            "models' places"
        )
    table = Table(
        "model",
        *(Column(name, justify="right") for name in ("x", "y", "from the plane")),
        title=title,
        box=box.SIMPLE_HEAD,
    )
    named = [row for row in rows if row["model"] is not None]
    accuracy = any(row["accuracy"] is not None for row in named)
    for data in alike.scored:
        table.add_column(f"{data} loss", justify="right")
        if accuracy:
            table.add_column("accuracy", justify="right")
    for name in dict.fromkeys(row["model"] for row in named):
        own = {row["data"]: row for row in named if row["model"] == name}
        first_row = next(iter(own.values()))
        cells = [_length(first_row[column], picture) for column in ("x", "y", "apart")]
        for data in alike.scored:
            cells.append(_number(own[data]["loss"]))
            if accuracy:
                cells.append(_percent(own[data]["accuracy"]))
        table.add_row(name, *cells)
    return table


def _length(value: float, picture: Any) -> str:
    """A length in weights; 0 where it is no more than rounding."""
    extent = max(abs(number) for place in picture.places for number in place)
    return "0" if abs(value) < 1e-6 * extent else f"{value:.4g}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
