"""The command line: compare, explain and doctor; train and data are in cli_train.py.

Exit codes: 0 done, 1 failed (one line says why), 2 wrong usage.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Column, Table

import rsam_ref
from rsam_backends import BackendError, quiet, use_backend
from rsam_ref import cli_check, cli_profile, cli_sharpness, cli_train
from rsam_ref.terminal import Backend, console, errors, fail, progress_bar, say, usage_errors

app = typer.Typer(
    name="rsam-ref",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="SAM and R-SAM, to read, to run, and to hold your own implementation against.",
)
PICTURES = (".png", ".svg", ".pdf")
HANDOUTS = (".pdf", ".html")
BACKGROUNDS = ("white", "transparent")


def _version(asked: bool) -> None:
    if asked:
        console.print(f"rsam-ref {rsam_ref.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def compare(
    out: Annotated[Path, typer.Option(help="The folder for results and finished runs.")] = Path(
        "runs/compare"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer radii, seeds and epochs: under a minute.")
    ] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(help="sgd, sam, sam2, noise or rsam; repeat for several.  [default: all]"),
    ] = None,
    rho: Annotated[
        list[float] | None,
        typer.Option(help="A radius to try; repeat for several.  [default: nine from 0.1 to 1.3]"),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds for every setting.  [default: 5; quick: 3]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every run.  [default: 60; quick: 40]")
    ] = None,
    label_noise: Annotated[
        float, typer.Option(help="Share of training labels replaced at random, 0 to 1.")
    ] = 0.4,
    sigma: Annotated[float, typer.Option(help="R-SAM's noise scale at the start of a run.")] = 1e-3,
    lam: Annotated[
        float, typer.Option(help="R-SAM's weight of the gradient against the draw.")
    ] = 2.0,
    jobs: Annotated[
        int | None, typer.Option(help="Processes at a time.  [default: one a core]")
    ] = None,
    backend: Backend = "numpy",
) -> None:
    """Compare SGD, SAM, 2-step SAM, noise alone and R-SAM on handwritten digits.

    Each method's one setting (rho, sigma or the learning rate) is tuned over equally many values on
    validation samples. Ctrl-C keeps the finished runs; the same command goes on from them.
    """
    from rsam_ref import compare as c

    with usage_errors():
        use_backend(backend)
        if jobs is not None and jobs < 1:
            raise ValueError(f"--jobs must be at least 1, not {jobs}")
        settings = c.Settings(
            label_noise=label_noise,
            epochs=epochs if epochs is not None else 40 if quick else 60,
            sigma=sigma,
            lam=lam,
            backend=backend,
        )
        rhos = rho or list(c.QUICK_RHOS if quick else c.RHOS)
        seeds = seeds if seeds is not None else 3 if quick else 5
        runs = c.plan(method or list(c.METHODS), rhos, seeds)
    out.mkdir(parents=True, exist_ok=True)
    file = c.RunFile(out / "runs.jsonl", settings)
    done = sum(run in file.finished for run in runs)
    if done:
        console.print(f"{done} of {len(runs)} runs were finished before and are kept.")

    with progress_bar() as progress:
        task = progress.add_task("training", total=len(runs), completed=done)

        def show(run: c.Run, record: dict[str, Any]) -> None:
            progress.update(task, advance=1, description=f"{c.METHODS[run.method].label:>10}")

        try:
            c.carry_out(settings, runs, file, jobs=jobs or os.cpu_count() or 1, on_run=show)
        except KeyboardInterrupt:
            progress.stop()
            kept = sum(run in file.finished for run in runs)
            errors.print(
                f"Interrupted. {kept} of {len(runs)} runs are kept in {file.path}; "
                "run the same command to go on.",
                soft_wrap=True,
            )
            raise typer.Exit(1) from None

    results = c.write_results(out, settings, [file.finished[run] for run in runs])
    from rsam_ref import plot

    plot.save(plot.compare_figure(results), out / "compare.png")
    _show_sweep(results)
    _show_best(results)
    console.print(f"Wrote results.json, results.csv and compare.png to {out}/", soft_wrap=True)


def _percent(point: dict[str, Any]) -> str:
    """Mean and standard deviation of a setting's test accuracy, in per cent."""
    return f"{100 * point['test_accuracy']:.1f} ± {100 * point['test_deviation']:.1f}"


def _show_sweep(results: dict[str, Any]) -> None:
    methods = {name: m for name, m in results["summary"]["methods"].items() if m["knob"] == "rho"}
    if not methods:
        return
    table = Table(title="Test accuracy (%) by radius: mean and standard deviation over seeds")
    table.add_column("rho", justify="right")
    for m in methods.values():
        table.add_column(m["label"], justify="right")
    columns = {name: {p["value"]: p for p in m["sweep"]} for name, m in methods.items()}
    for value in next(iter(columns.values())):
        table.add_row(
            f"{value:g}",
            *(_percent(points[value]) for points in columns.values()),
        )
    console.print(table)


def _show_best(results: dict[str, Any]) -> None:
    summary = results["summary"]
    table = Table(
        "method",
        Column("setting", no_wrap=True),
        Column("test (%)", justify="right", no_wrap=True),
        Column("against SGD", justify="right", no_wrap=True),
        Column("against SAM", justify="right", no_wrap=True),
        title="Each method at the setting that validation chose",
        box=box.SIMPLE_HEAD,
    )
    verdicts = {(d["method"], d["against"]): d for d in summary["differences"]}

    def verdict(name: str, other: str) -> str:
        d = verdicts.get((name, other))
        if d is None:
            return ""
        if d["low"] is None:
            return f"{100 * d['mean']:+.1f} (one seed)"
        text = f"{100 * d['mean']:+.1f} [{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]"
        return text + ("\nwithin noise" if d["within_noise"] else "\nclear")

    for name, m in summary["methods"].items():
        best = m["best"]
        table.add_row(
            m["label"],
            f"{m['knob']} {best['value']:g}",
            _percent(best),
            verdict(name, "sgd"),
            verdict(name, "sam"),
        )
    console.print(table)
    console.print(
        "Differences are means over seeds, in points, with their 95 % interval (paired t). "
        "'Within noise' means that the interval holds 0, 'clear' that it does not.",
        soft_wrap=True,
    )


@app.command()
def explain(
    save: Annotated[
        Path | None, typer.Option(help="Draw the two-weight step to this file (.png, .svg, .pdf).")
    ] = None,
    stages: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Draw it stage by stage, for slides: SVGs in this folder."
        ),
    ] = None,
    handout: Annotated[
        Path | None, typer.Option(help="Write it as one page to hand out (.pdf, .html).")
    ] = None,
    background: Annotated[
        str, typer.Option(help="Of --save and --stages: white or transparent.")
    ] = "white",
    algorithm: Annotated[str, typer.Option(help="rsam or sam.")] = "rsam",
    rho: Annotated[float, typer.Option(help="Radius on the two-weight problem.")] = 0.5,
    sigma: Annotated[
        float | None,
        typer.Option(help="Noise scale on the two-weight problem (R-SAM).  [default: 0.25]"),
    ] = None,
    lam: Annotated[
        float | None, typer.Option(help="Weight of the gradient (R-SAM).  [default: 1.0]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which draw (R-SAM).  [default: 14]")] = None,
    backend: Backend = "numpy",
) -> None:
    """Tell one step of R-SAM or SAM in numbers and in a picture: on two weights, and on a network.

    The pictures are slides of 16:9, their letters drawn as outlines; --stages makes one for each
    stage of the step, to show one after the other. Files of the same names are overwritten.
    """
    from rsam_ref import explain as e
    from rsam_ref.sam import norm

    random = {"sigma": sigma, "lam": lam, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in random.items() if value is not None}
    with usage_errors():
        use_backend(backend)
        if algorithm not in e.ALGORITHMS:
            raise ValueError(
                f"unknown algorithm {algorithm!r}; there are {', '.join(e.ALGORITHMS)}"
            )
        if algorithm == "sam" and given:
            raise ValueError(f"--{next(iter(given))} means nothing to sam")
        if background not in BACKGROUNDS:
            raise ValueError(f"--background is {' or '.join(BACKGROUNDS)}, not {background!r}")
        for option, path, kinds in (("save", save, PICTURES), ("handout", handout, HANDOUTS)):
            if path is not None and path.suffix.lower() not in kinds:
                raise ValueError(f"--{option} {path}: give a file ending in {', '.join(kinds)}")
        with quiet():
            step = e.two_weights(algorithm=algorithm, rho=rho, **given)
    network = e.digits_network(algorithm=algorithm)
    wrote = _write_step(step, save, stages, handout, background == "transparent")
    table = Table(title=f"{e.ALGORITHMS[algorithm]} on two weights ({e.settings(step)})")
    for column in ("", "what it is", "value", "length"):
        table.add_column(column, justify="right" if column == "length" else "left")
    for symbol, text, vector in e.quantities(step):
        table.add_row(symbol, text, e.as_text(vector), f"{float(norm(vector)):.3f}")
    console.print(table)
    console.print(
        f"The loss is {float(step.trace.loss):.3f} at {e.first_place(step)} and "
        f"{float(step.trace.adversarial_loss):.3f} at w + eps.\n",
        soft_wrap=True,
    )

    s = network.step
    table = Table(
        title=f"On the digits MLP, {network.weights:,} weights, after 5 epochs of SGD "
        f"({e.settings(s)})"
    )
    for column in ("", "what it is", "length"):
        table.add_column(column, justify="right" if column == "length" else "left")
    for symbol, text, vector in e.quantities(s):
        table.add_row(symbol, text, f"{float(norm(vector)):.4g}")
    console.print(table)
    losses = {
        "at w": network.loss_before,
        f"at {e.first_place(s)}": float(s.trace.loss),
        "at w + eps": float(s.trace.adversarial_loss),
        "at w'": network.loss_after,
    }
    table = Table(*losses, title="The batch's loss")
    table.add_row(*(f"{value:.4f}" for value in losses.values()))
    console.print(table)
    for text, degrees in e.angles(network):
        console.print(f"{degrees:6.1f} degrees {text}", highlight=False)
    for path in wrote:
        say(f"Wrote {path}")
    if not wrote:
        console.print("To see the two-weight step drawn: rsam-ref explain --save step.png")


def _write_step(
    step: Any, save: Path | None, stages: Path | None, handout: Path | None, transparent: bool
) -> list[Path]:
    """The files that were asked for; returns their names."""
    if not (save or stages or handout):
        return []
    from rsam_ref import handout as sheet
    from rsam_ref import plot, plot_step
    from rsam_ref.stages import slide_names

    files = {}
    if save:
        files[save] = plot_step.step_figure(step)
    if stages:
        if stages.exists() and not stages.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(stages))
        stages.mkdir(parents=True, exist_ok=True)
        for name, figure in zip(slide_names(step), plot_step.stage_figures(step)):
            files[stages / name] = figure
    for path, figure in files.items():
        plot.save(figure, path, trim=False, transparent=transparent)
    if handout:
        sheet.write(step, handout)
    return [*files, *([handout] if handout else [])]


@app.command()
def doctor() -> None:
    """Say which backends work here, on what, and what to do about those that do not."""
    from rsam_backends import available_backends, current_backend, get_backend

    console.print(
        f"rsam-ref {rsam_ref.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}; in force: {current_backend().name}",
        highlight=False,
        soft_wrap=True,
    )
    for name in sorted(available_backends(), key=lambda name: (name != "numpy", name)):
        try:
            backend = get_backend(name)
            described = backend.describe()
            trial = backend.to_host(backend.to_device([1.0, 2.0]) * 2)
            described["trial"] = "2 * (1, 2) = " + str(tuple(trial.tolist()))
            mark, lines = "works", [f"{key}: {value}" for key, value in described.items()]
        except BackendError as error:
            mark, lines = "not here", [str(error)]
        except Exception as error:  # another package's backend may fail in any way
            mark, lines = "broken", [f"{type(error).__name__}: {error}"]
        console.print(f"{name}: {mark}", highlight=False)
        for line in lines:
            console.print(f"    {line}", highlight=False, soft_wrap=True, markup=False)


app.command()(cli_train.train)
app.command()(cli_check.check)
app.command()(cli_profile.profile)
app.command()(cli_sharpness.sharpness)
app.add_typer(cli_train.data, name="data")


def main() -> None:
    """The command. Errors that a user can mend end in one line and exit code 1."""
    try:
        app()
    except OSError as error:
        what = error.strerror or str(error)
        fail(f"{error.filename}: {what}" if error.filename else what)
    except MemoryError as error:
        fail(f"out of memory ({error}); use smaller batches or models, or fewer --jobs")
    except (BackendError, ValueError, ArithmeticError, RuntimeError) as error:
        fail(str(error))
    else:
        return
    sys.exit(1)


if __name__ == "__main__":
    main()
