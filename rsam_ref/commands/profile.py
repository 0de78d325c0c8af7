"""The command ``rsam-ref profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.progress import Progress
from rich.table import Column, Table

from rsam_ref.commands.terminal import (
    Backend,
    Channels,
    Classes,
    ImageSize,
    Kernels,
    ModelOptions,
    Threads,
    choose,
    console,
    name_and_value,
    say,
    usage_errors,
)

Option = typer.Option
PICTURES = (".png", ".svg", ".pdf")
OPTIMIZERS = ("sgd", "sam", "rsam")


def profile(
    model: Annotated[str, typer.Argument(help="mlp, cnn, resnet20, resnet18, vit_tiny, ...")],
    batch: Annotated[int, Option(help="Samples a step.")] = 32,
    optimizer: Annotated[str, Option(help="sgd, sam or rsam.")] = "sgd",
    steps: Annotated[int, Option(help="Measured steps; as many again are not measured.")] = 20,
    image_size: ImageSize = None,
    channels: Channels = None,
    classes: Classes = 10,
    model_option: ModelOptions = None,
    save: Annotated[
        Path | None, Option(help="Draw the table to this file (.png, .svg, .pdf).")
    ] = None,
    backend: Backend = "numpy",
    kernels: Kernels = "fast",
    threads: Threads = None,
) -> None:
    """Say where the time of a step goes: op by op, forward and backward, and what is left.

    Steps on random images are timed with and without measuring, in turn. A call backward is one
    input's gradient, or the gradients of all inputs where they share work.
    """
    from rsam_ref.algorithms.base import SGD
    from rsam_ref.algorithms.optimizers import RSAM, SAM
    from rsam_ref.training import profiling

    with usage_errors():
        choose(backend, kernels, threads)
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {optimizer!r}; there are {', '.join(OPTIMIZERS)}")
        if save is not None and save.suffix.lower() not in PICTURES:
            raise ValueError(f"--save {save}: give a file ending in {', '.join(PICTURES)}")
        if steps < 1:
            raise ValueError(f"--steps must be at least 1, not {steps}")
        options = dict(map(name_and_value, model_option or []))
        net, shape = profiling.make(
            model, image_size=image_size, channels=channels, classes=classes, options=options
        )
        x, y = profiling.random_batch(batch, shape, classes)
    base = SGD(0.01, momentum=0.9, weight_decay=5e-4)
    chosen: Any = {"sgd": base, "sam": SAM(base), "rsam": RSAM(base)}[optimizer]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("timing", total=steps)
        result = profiling.profile(
            net, chosen, x, y, steps=steps, on_step=lambda: progress.advance(task)
        )
    size = " x ".join(map(str, x.shape))
    title = f"{model}, {optimizer}, images {size}, on {backend}: {1e3 * result.measured:.2f} ms"
    if save is not None:
        from rsam_ref.figures import save as write
        from rsam_ref.training.figures import profile_figure

        write(profile_figure(result, f"One step of {title}"), save)
    console.print(_table(result, f"One step of {title}"))
    added = result.measured - result.unmeasured
    say(
        f"Not measured, a step takes {1e3 * result.unmeasured:.2f} ms: measuring adds "
        f"{1e3 * added:.2f} ms ({added / result.unmeasured:.0%}). Means of the faster half of "
        f"{steps} steps each, taken in turn."
    )
    if result.waits:
        say("Measured steps wait for the device before and after every op; others only at the end.")
    if save is not None:
        say(f"Wrote {save}")


def _table(result: Any, title: str) -> Table:
    table = Table(
        Column("op", no_wrap=True),
        "phase",
        "run by",
        Column("calls", justify="right"),
        Column("ms", justify="right"),
        Column("share (%)", justify="right"),
        title=title,
        box=box.SIMPLE_HEAD,
    )
    ops = [row for row in result.rows if row.phase]
    for row in result.rows:
        table.add_row(
            row.name,
            row.phase,
            row.by,
            f"{row.calls:g}" if row.phase else "",
            f"{1e3 * row.seconds:.3f}",
            f"{100 * row.seconds / result.measured:.1f}",
            end_section=bool(ops) and row is ops[-1],
        )
    table.add_section()
    table.add_row("all", "", "", "", f"{1e3 * result.measured:.3f}", "100.0")
    return table
