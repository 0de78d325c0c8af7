"""The command ``rsam-ref check``."""

from __future__ import annotations

import datetime
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from rsam_ref.commands.terminal import (
    console,
    errors,
    fail,
    interrupted,
    progress_bar,
    say,
    usage_errors,
)

Option = typer.Option
PICTURES = (".png", ".svg", ".pdf")


def check(
    target: Annotated[
        str | None,
        typer.Argument(metavar="FILE.py:NAME", help="Or package.module:NAME."),
    ] = None,
    algorithm: Annotated[str, Option(help="sam, asam or rsam: what it is meant to be.")] = "rsam",
    form: Annotated[
        str | None,
        Option(
            help="function, optimizer, loop, lightning, optax, jax, keras or mlx.  "
            "[default: found out]"
        ),
    ] = None,
    base: Annotated[
        str | None,
        Option(help="The base optimizer it has to have: sgd, adamw, ...  [default: its own]"),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the report as JSON.")] = False,
    plot: Annotated[
        Path | None, Option(help="Draw its first step to this file (.png, .svg, .pdf).")
    ] = None,
    html: Annotated[
        Path | None, Option(help="Write the report to this file, to attach to an issue.")
    ] = None,
    seed: Annotated[int, Option(help="Of the problem that it is tried on.")] = 0,
    timeout: Annotated[float, Option(help="Seconds that a part of the check may take.")] = 60.0,
    processes: Annotated[
        int, Option(min=1, max=4, help="How many run a PyTorch training step, under DDP.")
    ] = 1,
    codes: Annotated[bool, Option("--codes", help="Tell all codes that can be found.")] = False,
) -> None:
    """Tell whether an implementation is SAM, ASAM or R-SAM, and if not, what is wrong with it.

    It is run from outside: only where it takes gradients and where the weights land is looked at.
    NAME is a function train_step(weights, loss_and_grad, state, hyper) -> (weights, state), in any
    framework, with lists of NumPy arrays; a PyTorch optimizer class, or make(params, hyper); a
    PyTorch function train_step(model, optimizer, loss_fn, batch, hyper), in any order; a
    LightningModule class; an optax transformation, or make(hyper); a JAX function
    train_step(params, opt_state, batch, loss_fn), jit or not; a keras.Model with a train_step; or
    an MLX train_step(model, optimizer, loss_fn, x, y).

    Settings are hyper.rho or hyper["rho"]; also lr, momentum, weight_decay, sigma, lam, eta.

    Exit codes: 0 it conforms (or makes the ascent, with a base step that nobody knows: --base makes
    that 1), 1 it diverges, 2 it could not be checked, 130 after Ctrl-C (or SIGTERM).
    """
    from rsam_ref.conformance import CATALOGUE, BrokenError
    from rsam_ref.conformance.checking import refuse_settings
    from rsam_ref.conformance.isolated import check_isolated
    from rsam_ref.training.interruption import terminated_as_by_ctrl_c

    if codes:
        for code, entry in CATALOGUE.items():
            say(f"{code}{' (note)' if entry.note else ''}: {entry.what}")
        return
    with usage_errors():
        if target is None:
            raise ValueError("say what to check: rsam-ref check FILE.py:NAME (see --help)")
        refuse_settings(algorithm, form, seed, timeout)
        if plot is not None and plot.suffix.lower() not in PICTURES:
            raise ValueError(f"--plot {plot}: give a file ending in {', '.join(PICTURES)}")
        for option, path in (("--plot", plot), ("--html", html)):
            if path is not None and not path.parent.is_dir():
                raise ValueError(f"{option} {path}: there is no folder {path.parent}")
    try:
        with terminated_as_by_ctrl_c(), progress_bar(errors, transient=True) as progress:
            task = progress.add_task("loading", total=None)

            def show(doing: str, done: int, total: int) -> None:
                progress.update(task, description=doing, completed=done, total=total)

            report = check_isolated(
                target,
                algorithm,
                form=form,
                base=base,
                seed=seed,
                timeout=timeout,
                progress=show,
                processes=processes,
            )
    except BrokenError as error:
        fail(f"could not check {target}: {error}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise interrupted("interrupted; nothing was written") from None
    if as_json:
        print(report.to_json())
    else:
        _tell(report, target)
    circumstances = {
        "command": f"rsam-ref {shlex.join(sys.argv[1:])}",
        "seed": str(seed),
        "date": datetime.date.today().isoformat(),
    }
    _write(report, target, plot, html, circumstances, quiet=as_json)
    raise typer.Exit(0 if report.conforms else 1)


def _write(
    report: Any,
    target: str,
    plot: Path | None,
    html: Path | None,
    circumstances: dict[str, str],
    *,
    quiet: bool,
) -> None:
    """Picture and page, as they were asked for. Exit code 2 where a file cannot be written."""
    if plot is None and html is None:
        return
    from rsam_ref.conformance.report import picture
    from rsam_ref.figures import save

    failed = False
    if plot is not None and not report.picture:
        fail(f"--plot {plot}: no step made two gradients, so there is nothing to draw")
        plot = None
    for path in (plot, html):
        if path is None:
            continue
        try:
            if path is plot:
                save(picture.step_figure(report), path)
            else:
                picture.write_page(report, target, path, circumstances)
        except OSError as error:
            fail(f"{path} could not be written: {error.strerror}")
            failed = True
        else:
            if not quiet:
                say(f"Wrote {path}")
    if failed:
        raise typer.Exit(2)


def _tell(report: Any, target: str) -> None:
    from rsam_ref.conformance.report.report import kind

    style = "bold green" if report.conforms else "bold red"
    console.print(Text(f"{target} {report.verdict}.", style), soft_wrap=True)
    for f in report.findings:
        prefix = kind(f)
        title = Text.assemble((f"{prefix} " if prefix else "", "dim"), (f.code, "bold"))
        console.print(Text("\n"), title, sep="", end="\n")
        lines = [f"{f.what[:1].upper()}{f.what[1:]}."]
        if f.evidence:
            seen = "; ".join(f"{k}: {_shown(v)}" for k, v in f.evidence.items())
            where = f" (in {f.where})" if f.where != "training" else ""
            lines.append(f"Seen{where}: {seen}")
        if f.conditional:
            lines.append("It may come from what could not be passed: alone it is no divergence.")
        elif not f.note:
            lines += [f"Effect: {f.effect}.", f"To mend it: {f.remedy}."]
        for line in lines:
            console.print(Padding(Text(line), (0, 0, 0, 4)))
    skipped = [f"{name} ({end[10:]})" for name, end in report.probes.items() if ":" in end]
    passed = [name for name, end in report.probes.items() if end == "passed"]
    if passed:
        console.print(Text(f"\nPassed: {', '.join(passed)}."))
    if skipped:
        console.print(Text(f"Not done: {'; '.join(skipped)}."))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
