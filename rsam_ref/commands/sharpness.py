"""The command ``rsam-ref sharpness``."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.measure import Measurement
from rich.table import Column, Table

from rsam_ref.commands.terminal import (
    INTERRUPTED,
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
    data_lines,
    errors,
    fail,
    labels,
    note_line,
    progress_bar,
    say,
    usage_errors,
)

Option = typer.Option

STOPPED = "Interrupted. What was measured is kept; run the same command to go on."


def sharpness(
    checkpoint: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="Runs of rsam-ref train, or their files; or FILE.py:NAME, a network of yours.",
        ),
    ],
    measure: Annotated[
        list[str] | None,
        Option(
            help="line, plane, worst, average, stability, hessian, inner; trace, layers, density, "
            "gauss-newton, eigenplane, kinks, m-sharpness, ascents; repeatable.  "
            "[default: line to inner]"
        ),
    ] = None,
    rho: Annotated[
        list[float] | None, Option(help="A radius; repeatable.  [default: 0.05 0.1 0.2 0.4]")
    ] = None,
    sigma: Annotated[
        list[float] | None,
        Option(help="A noise scale; repeatable.  [default: 0.0005 0.001 0.002 0.005 0.01]"),
    ] = None,
    samples: Annotated[int, Option(help="Training samples to measure the loss on.")] = 500,
    batches: Annotated[int, Option(help="Mini-batches for the inner maximum.")] = 4,
    draws: Annotated[int, Option(help="Draws of the noise for every mean.")] = 10,
    directions: Annotated[int, Option(help="Random directions for line.")] = 3,
    extent: Annotated[float, Option(help="How far to go, in norms of the filters.")] = 1.0,
    points: Annotated[int, Option(help="Points along a direction.")] = 21,
    steps: Annotated[int, Option(help="Steps of projected ascent; for inner 10 or more.")] = 30,
    restarts: Annotated[int, Option(help="Its random starts, besides the weights.")] = 2,
    eigenvalues: Annotated[int, Option(help="How many of the Hessian's largest.")] = 5,
    lowest: Annotated[int, Option(help="How many of its lowest.")] = 0,
    probes: Annotated[
        int, Option(help="Random probes of a density; a trace has three times as many products.")
    ] = 10,
    parts: Annotated[
        int, Option(help="Parts of the samples: for the spread over samples, and for m-sharpness.")
    ] = 5,
    iterations: Annotated[int, Option(help="Lanczos' iterations, at most.")] = 60,
    depth: Annotated[
        int, Option(help="Parts of their dotted names that tell layers apart; 0: all.")
    ] = 0,
    lam: Annotated[float, Option(help="R-SAM's weight of the gradient against the draw.")] = 2.0,
    seed: Annotated[int, Option(help="Decides samples, directions and draws.")] = 0,
    dtype: Annotated[
        str | None,
        Option(
            help="float64, or float32 in half the time; never for what asks the Hessian.  "
            "[default: float64; float32 for a network that needs it to be done in --minutes]"
        ),
    ] = None,
    minutes: Annotated[
        float,
        Option(
            help="For networks of PyTorch: about how long all measures may take. What is not given "
            "is made smaller for that, and told. 0: no limit."
        ),
    ] = 10.0,
    weights: NetworkWeights = None,
    data: NetworkData = None,
    batch_source: Annotated[
        str | None,
        Option(
            "--batches-from",
            metavar="FILE.py:NAME",
            help="Or its own: a loader, or a list of batches (x, y).",
        ),
    ] = None,
    loss: NetworkLoss = None,
    forward: NetworkForward = None,
    output_axis: Annotated[
        str | None,
        Option(
            metavar="AXIS",
            help="Of a tree in JAX, the axis of its filters: a number, flax_axis, equinox_axis, or "
            "FILE.py:NAME.  [default: 0]",
        ),
    ] = None,
    batch_size: NetworkBatchSize = 128,
    out: Annotated[Path, Option(metavar="DIR", help="Where the results go.")] = Path(
        "runs/sharpness"
    ),
    backend: Backend = "numpy",
    kernels: Kernels = "fast",
    threads: Threads = None,
    context: typer.Context = None,  # type: ignore[assignment]  # typer gives it
) -> None:
    """Measure how flat the loss is around trained weights, and draw it; models side by side.

    line, plane: the loss along random directions. worst: the largest rise within rho (SAM's
    sharpness). average: the mean rise under noise. stability: how far noise turns the gradient.
    hessian: the largest eigenvalues. inner: the share of the largest rise that SAM, k-step SAM and
    R-SAM reach on mini-batches. Only when named: trace, layers, density: the Hessian's trace with
    every layer's share, every layer's own eigenvalues, the density of all eigenvalues.
    gauss-newton: Gauss-Newton's matrix and the empirical Fisher beside the Hessian. eigenplane: the
    loss over the plane of the two leading eigenvectors. kinks: how much of average the Hessian
    explains. m-sharpness: worst, part by part of the samples. ascents: where SAM, k-step SAM and
    R-SAM climb from w, for the first radius and noise scale, also as a view to turn. The losses are
    those of training samples, with batch norm's running statistics, for inner and ascents with the
    batch's. Nothing in the runs' folders changes. Ctrl-C keeps what was measured; the same command
    goes on from it.

    A network of PyTorch is FILE.py:NAME: a model, or a function or class without arguments that
    makes one. Say what it is measured on with --data or --batches-from; its loss, and what else
    --batches-from, --loss and --forward name, may stand in the same file: then NAME is enough.
    A loss and a tree in JAX is FILE.py:NAME too: a pair (loss, params) with loss(params, batch), or
    a function that returns one. It is computed in float64, which is enabled in JAX for that; of it
    gauss-newton cannot be had, and --minutes sets no limit.
    Where the measures of a network of PyTorch would take longer than --minutes, they have fewer
    probes, draws, steps and points: the intervals and bounds say what that costs, and more minutes,
    or any of these given, buy it back.
    """
    from rsam_ref.commands.networks import Asked, check_asked, is_network, plan_of
    from rsam_ref.sharpness.given import known_measures
    from rsam_ref.sharpness.kept import Kept
    from rsam_ref.sharpness.survey import MEASURES, PRECISE, SurveySettings
    from rsam_ref.training.trained import load_trained

    with usage_errors():
        choose(backend, kernels, threads)
        if dtype not in (None, "float32", "float64"):
            raise ValueError(f"--dtype is float32 or float64, not {dtype}")
        named = known_measures(measure or None)
        settings = SurveySettings(
            rhos=tuple(rho or SurveySettings.rhos),
            sigmas=tuple(sigma or SurveySettings.sigmas),
            samples=samples,
            batches=batches,
            draws=draws,
            directions=directions,
            extent=extent,
            points=points,
            steps=steps,
            restarts=restarts,
            eigenvalues=eigenvalues,
            lowest=lowest,
            probes=probes,
            parts=parts,
            iterations=iterations,
            depth=depth,
            lam=lam,
            seed=seed,
        )
        if "inner" in named and steps < max(settings.ascent_steps):
            raise ValueError(
                f"--steps {steps}: inner compares ascents of up to {max(settings.ascent_steps)} "
                "steps with the maximum, which needs as many; or name other measures"
            )
        targets = [str(path) for path in checkpoint if is_network(str(path))]
        asked = Asked(
            weights or [],
            data,
            batch_source,
            loss,
            forward,
            batch_size,
            dtype,
            threads,
            minutes,
            _given_settings(context),
            output_axis,
        )
        check_asked(targets, asked)
    runs = [
        load_trained(path, dtype=dtype or "float64")
        for path in checkpoint
        if str(path) not in targets
    ]
    if "gauss-newton" in (measure or ()):
        with usage_errors():
            for trained in runs:
                if trained.recipe.loss != "cross-entropy":
                    raise ValueError(
                        f"gauss-newton is for cross-entropy; {trained.folder} was trained by "
                        f"{trained.recipe.loss}: name other measures"
                    )
    networks = _networks(targets, asked, settings)
    _tell_of_data(runs, networks)
    models = [*runs, *networks]
    out.mkdir(parents=True, exist_ok=True)
    kept = Kept(out / "measured.jsonl")
    wanted = [name for name in MEASURES if name in named]
    chosen = plan_of(networks, wanted, settings, asked, kept) if networks else None
    if chosen is not None:
        _tell_plan(chosen.plan, settings, len(networks))
    begun = None if chosen is None else chosen.plan

    def of(model: Any, name: str) -> tuple[Any, Any]:
        """What a measure is taken of, and with which settings, as it begins."""
        if chosen is not None and model in networks:
            return chosen.of(model, name)
        precisely = name in PRECISE and dtype == "float32"
        return model.in_float64 if precisely else model, settings

    def took(model: Any, name: str, seconds: float) -> None:
        if chosen is not None and model is networks[0]:
            chosen.took(name, seconds)

    plan = [
        (label, name, partial(of, model, name), partial(took, model, name))
        for model, label in zip(models, labels(models))
        for name in wanted
    ]
    rows, failed = _measure(plan, kept)
    if chosen is not None and chosen.plan != begun:
        _tell_corrections(begun, chosen.plan)
    _write(out, rows)
    names = ["sharpness.csv", "sharpness.json", *_write_figures(out, rows)]
    _show(rows)
    say(f"Wrote {', '.join(names)} to {out}/")
    for line in failed:
        errors.print(line, highlight=False, soft_wrap=True, markup=False)
    if failed:
        raise typer.Exit(INTERRUPTED if STOPPED in failed else 1)


def _tell_of_data(runs: list[Any], networks: list[Any]) -> None:
    """What reading the data left out or set right, each line once."""
    lines = [line for run in runs for line in data_lines(run)]
    lines += [note_line(note) for network in networks for note in network.notes]
    lines += [remark for network in networks for remark in getattr(network, "remarks", ())]
    for line in dict.fromkeys(lines):
        say(line)


def _networks(targets: list[str], asked: Any, settings: Any) -> list[Any]:
    """The networks that are asked for. Exit code 1, after one line, where one cannot be run."""
    from rsam_ref.commands.networks import NetworkError, load_networks

    if not targets:
        return []
    try:
        return load_networks(targets, asked, settings)
    except NetworkError as error:
        fail(str(error))
        raise typer.Exit(1) from None


def _given_settings(context: typer.Context | None) -> frozenset[str]:
    """The settings that stand on the command line; none where there is none."""
    if context is None:
        return frozenset()
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    return frozenset({"rho": "rhos", "sigma": "sigmas"}.get(name, name) for name in given)


def _tell_plan(plan: Any, settings: Any, networks: int) -> None:
    """How long every measure is to take, and with which settings that are not the usual ones."""
    table = Table(
        "measure",
        Column("seconds", justify="right"),
        "smaller than by default",
        title=f"About {_minutes(networks * plan.seconds)}"
        + (f" for {networks} networks" if networks > 1 else "")
        + ("" if plan.dtype is None else f", computed in {plan.dtype}".replace("torch.", "")),
        box=box.SIMPLE_HEAD,
    )
    for planned in plan.measures:
        table.add_row(planned.measure, f"{planned.seconds:.0f}", planned.smaller(settings))
    console.print(table)


def _tell_corrections(begun: Any, ended: Any) -> None:
    """Which measures got other settings on the way than the plan said."""
    pairs = zip(begun.measures, ended.measures)
    if changed := [(was, now) for was, now in pairs if was.settings != now.settings]:
        told = "; ".join(f"{now.measure}: {now.smaller(was.settings)}" for was, now in changed)
        say(f"Measures took another time than was reckoned, so later ones were changed: {told}")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"


def _subject(model: Any, settings: Any, tell: Callable[[], None], known: dict[Any, Any]) -> Any:
    """What the measures ask, of a run or of a network."""
    from rsam_ref.sharpness.survey import Subject
    from rsam_ref.training.trained import Trained

    if isinstance(model, Trained):
        return Subject(model, settings, tell, known)
    return model.subject(settings, tell, known)


def _measure(
    plan: Sequence[tuple[str, str, Callable[[], tuple[Any, Any]], Callable[[float], None]]],
    kept: Any,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of every (label, measure, model and settings), and why some failed, a line each.

    What is last in a row of the plan is told how many seconds its measure took.

    What is kept is not measured again. Ctrl-C leaves the rows that there are. What fails in
    a network that was given leaves its other measures.
    """
    from rsam_ref.sharpness.kept import fingerprint
    from rsam_ref.sharpness.survey import survey
    from rsam_ref.training.trained import Trained

    known: dict[str, dict[Any, Any]] = {}
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    with progress_bar() as progress:
        task = progress.add_task("measuring", total=len(plan))
        try:
            for label, name, of, took in plan:
                trained, settings = of()
                key = fingerprint(trained, settings, name)
                found = kept.get(key)
                if found is None:
                    tell = _teller(progress, task, f"{label} {name}")
                    start, began = len(rows), time.perf_counter()
                    measured = survey(
                        name, _subject(trained, settings, tell, known.setdefault(label, {}))
                    )
                    try:
                        rows.extend(_labelled(label, measured))
                    except Exception as error:
                        if isinstance(trained, Trained):
                            raise
                        failed.append(f"{label} {name}: {' '.join(str(error).split())}"[:400])
                    else:
                        kept.add(key, rows[start:])
                        took(time.perf_counter() - began)
                else:
                    rows.extend(_labelled(label, found))
                progress.advance(task)
        except KeyboardInterrupt:
            failed.append(STOPPED)
    return rows, failed


def _teller(progress: Any, task: Any, doing: str) -> Callable[[], None]:
    """A function that counts the losses asked for, on the progress bar."""
    count = itertools.count(1)
    return lambda: progress.update(task, description=f"{doing}, {next(count):,} losses")


def _labelled(label: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows with the model's name, and None for numbers that are not finite."""
    from rsam_ref.sharpness.kept import finite

    for row in rows:
        yield finite(row) | {"model": label}


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    """All rows as CSV, and as JSON, a row a line."""
    from rsam_ref.files import write_whole
    from rsam_ref.sharpness.survey import COLUMNS

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(out / "sharpness.csv", text.getvalue().encode())
    lines = ",\n".join(json.dumps(row) for row in rows)
    write_whole(out / "sharpness.json", f"[\n{lines}\n]\n".encode())


def _write_figures(out: Path, rows: list[dict[str, Any]]) -> list[str]:
    """The figures of what was measured; their names."""
    from rsam_ref.figures import save
    from rsam_ref.sharpness.figures import (
        LAYERS,
        PANELS,
        ascents_figure,
        eigenplane_figure,
        flatness_figure,
        inner_figure,
        layers_figure,
        plane_figure,
    )

    measured = {row["measure"] for row in rows}
    figures = {
        "flatness.png": (measured & PANELS.keys(), flatness_figure),
        "plane.png": (measured & {"plane"}, plane_figure),
        "eigenplane.png": (measured & {"eigenplane"}, eigenplane_figure),
        "layers.png": (
            [row for row in rows if row["measure"] in LAYERS and row["low"] is not None],
            layers_figure,
        ),
        "inner.png": (
            [row for row in rows if row["measure"] == "inner" and row["value"] is not None],
            inner_figure,
        ),
        "ascents.png": (measured & {"ascents"}, ascents_figure),
    }
    made = [name for name, (there, _) in figures.items() if there]
    for name in made:
        save(figures[name][1](rows), out / name)
    if "ascents.png" in made:
        made += _write_views(out, [row for row in rows if row["measure"] == "ascents"])
    return made


def _write_views(out: Path, rows: list[dict[str, Any]]) -> list[str]:
    """A page for a browser a model; none, after a line that says so, without the library."""
    from rsam_ref.files import write_whole
    from rsam_ref.sharpness.view import ascents_view

    models = list(dict.fromkeys(row["model"] for row in rows))
    made = []
    for i, model in enumerate(models):
        name = "ascents.html" if len(models) == 1 else f"ascents-{i + 1}.html"
        try:
            page = ascents_view([row for row in rows if row["model"] == model], model)
        except ImportError:
            say("No view to turn: it needs plotly, pip install 'rsam-ref[view]'")
            return []
        write_whole(out / name, page.encode())
        made.append(name)
    return made


def _show(rows: list[dict[str, Any]]) -> None:
    """The numbers in short; the lines, planes and densities are for the figures."""
    for measure, (heading, title) in TABLES.items():
        own = [row for row in rows if row["measure"] == measure]
        if own:
            for table in _tables(own, heading, title):
                console.print(table)
    inner = [row for row in rows if row["measure"] == "inner"]
    for model in dict.fromkeys(row["model"] for row in inner):
        console.print(_inner_table(model, [row for row in inner if row["model"] == model]))


TABLES = {
    "worst": ("rho", "Largest rise of the loss"),
    "average": ("sigma", "Mean rise of the loss under noise, 95 % interval"),
    "stability": ("sigma", "Cosine of the gradients at w and w + D, 95 % interval"),
    "hessian": (
        "rank",
        "Eigenvalues of the Hessian, largest (1, 2, ...) and lowest (-1, ...), bounds on these "
        "samples, and the 95 % interval over parts of them along each eigenvector",
    ),
    "trace": (
        "layer",
        "Trace of the Hessian and shares of it, 95 % intervals over probes and over parts of the "
        "samples",
    ),
    "layers": (
        "layer",
        "Largest and lowest eigenvalue of every layer's block, bounds on these samples, and the "
        "95 % interval over parts of them along each eigenvector",
    ),
    "gauss-newton": (
        "of",
        "Traces and largest eigenvalues: 95 % interval over probes or bounds, and over samples",
    ),
    "kinks": ("sigma", "Mean rise under noise, its quadratic form, and the rest"),
    "m-sharpness": ("rho", "Largest rise, part by part of the samples: mean over parts"),
}
"""The measures that are printed: what the rows are told by, and the title."""


def _told(row: dict[str, Any]) -> str:
    """What a row of a table is told by: radius, scale, rank, layer, method."""
    match row["measure"]:
        case "worst" | "m-sharpness":
            return f"{row['rho']:g}"
        case "average" | "stability":
            return f"{row['sigma']:g}"
        case "hessian":
            return f"{row['x']:g}"
        case "trace":
            return row["part"] or "all"
        case "layers":
            return f"{row['part']} {'largest' if row['x'] > 0 else 'lowest'}"
        case "kinks":
            return f"{row['sigma']:g} {row['method']}"
        case _:
            return f"{row['method']} {row['x'] or 'trace'}"


def _tables(rows: list[dict[str, Any]], heading: str, title: str) -> Iterator[Table]:
    """Tables no wider than the console, if they can be: as many models beside one another."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    while models:
        count = len(models)
        while count > 1 and _width(_table(rows, heading, title, models[:count])) > console.width:
            count -= 1
        yield _table(rows, heading, title, models[:count])
        models = models[count:]


def _width(table: Table) -> int:
    wide = console.options.update(max_width=10_000)
    return Measurement.get(console, wide, table).maximum


def _table(rows: list[dict[str, Any]], heading: str, title: str, models: list[str]) -> Table:
    """A row a radius, scale, rank or layer; a column a model."""
    table = Table(heading, title=title, box=box.SIMPLE_HEAD)
    for model in models:
        table.add_column(model, justify="right")
    for told in dict.fromkeys(map(_told, rows)):
        found = {row["model"]: _value(row) for row in rows if _told(row) == told}
        table.add_row(told, *(found.get(model, "") for model in models))
    return table


def _inner_table(model: str, rows: list[dict[str, Any]]) -> Table:
    """A row a method, a column a radius: the mean share over the mini-batches."""
    from rsam_ref.sharpness import METHODS

    rhos = list(dict.fromkeys(row["rho"] for row in rows))
    table = Table(
        Column("ascent", no_wrap=True),
        Column("sigma", justify="right"),
        Column("gradients", justify="right"),
        *(Column(f"rho {rho:g}", justify="right") for rho in rhos),
        title=f"{model}: share of the inner maximum (%), mean over mini-batches",
        box=box.SIMPLE_HEAD,
    )
    for key in dict.fromkeys((r["method"], r["sigma"], r["gradients"]) for r in rows):
        method, sigma, gradients = key
        if method not in METHODS:
            continue
        own = [r for r in rows if (r["method"], r["sigma"], r["gradients"]) == key]
        shares = [[r["value"] for r in own if r["rho"] == rho] for rho in rhos]
        means = [
            f"{100 * math.fsum(s) / len(s):.1f}" if s and None not in s else "" for s in shares
        ]
        table.add_row(
            METHODS[method], "" if sigma is None else f"{sigma:g}", f"{gradients}", *means
        )
    return table


def _value(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "not finite"
    text = f"{row['value']:.4g}"
    if row["low"] is not None and row["high"] > row["low"]:
        text += f" ± {row['high'] - row['value']:.1g}"
    if row.get("sample_low") is not None:
        text += f" ({row['sample_low']:.3g} to {row['sample_high']:.3g})"
    return text
