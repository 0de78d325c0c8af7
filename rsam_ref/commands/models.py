"""`rsam-ref models`: what models there are, and what one is made of."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Table

from rsam_ref.commands.terminal import (
    Channels,
    Classes,
    ImageSize,
    ModelOptions,
    console,
    errors,
    name_and_value,
    say,
    usage_errors,
)

Option = typer.Option
BATCHES = (1, 32, 128)


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="mlp, cnn, resnet20, ..., or FILE.py:NAME."),
    ] = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    classes: Classes = 10,
    model_option: ModelOptions = None,
    memory: Annotated[bool, Option(help="Measure the memory of a step, which runs some.")] = True,
) -> None:
    """Tell what models there are; of one its layers, shapes, weights, options and memory.

    The memory is what a step uses at its peak in float32, the weights among it; measured on a few
    samples and continued to more. The data are not in it.
    """
    from rsam_ref.loading import is_target, load
    from rsam_ref.models import MODELS

    if name is None:
        for known, make in MODELS.items():
            say(f"{known:12} {_about(make)}")
        say("rsam-ref models NAME tells of one: its layers, options and memory.")
        return
    with usage_errors():
        from rsam_ref.training.profiling import make as make_one

        options = dict(map(name_and_value, model_option or []))
        model, shape = make_one(
            name, image_size=image_size, channels=channels, classes=classes, options=options
        )
    _layers(model, shape)
    maker = load(name) if is_target(name) else MODELS[name]
    taken = inspect.signature(maker).parameters
    decided = {"shape", "inputs", "channels", "size", "image_size", "classes", "seed", "dtype"}
    told = [
        f"{option}={'-' if p.default is p.empty else p.default}"
        for option, p in taken.items()
        if option not in decided
    ]
    say(f"Options (--model-option NAME=VALUE): {', '.join(told) or 'none'}")
    if memory:
        _memory(model, shape, classes)


def _layers(model: Any, shape: tuple[int, ...]) -> None:
    from rsam_ref.models.outline import outline

    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "kind", "output"):
        table.add_column(heading)
    table.add_column("weights", justify="right")
    lines = outline(model, shape)
    for line in lines:
        label = "  " * (line.depth - 1) + line.name.rpartition(".")[2] if line.name else "(input)"
        if not line.name:
            table.add_row(label, "", _times(shape), "")
            continue
        out = _times(line.shape) if line.shape else "-"
        table.add_row(label, line.kind, out, f"{line.weights:,}" if line.weights else "")
    console.print(table, markup=False, highlight=False)
    filters = sum(p[0] for p in model.weights.shapes)
    say(
        f"{model.weights.flat.size:,} weights in {len(model.weights.names)} tensors, "
        f"{filters:,} filters"
    )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _memory(model: Any, shape: tuple[int, ...], classes: int) -> None:
    from rsam_ref.algorithms.base import SGD
    from rsam_ref.algorithms.optimizers import RSAM
    from rsam_ref.training.memory import memory_of_a_step

    table = Table(box=None, pad_edge=False)
    table.add_column("memory of a step")
    for n in BATCHES:
        table.add_column(f"batch {n}", justify="right")
    optimizers: dict[str, Callable[[], Any]] = {
        "sgd with momentum": lambda: SGD(1e-3, 0.9),
        "rsam around it": lambda: RSAM(SGD(1e-3, 0.9)),
    }
    with errors.status("measuring the memory of a step"):
        for name, new in optimizers.items():
            found = memory_of_a_step(model, new, shape, classes)
            if found is None:
                return
            table.add_row(name, *(_bytes(found.of(n)) for n in BATCHES))
    console.print(table, markup=False, highlight=False)


def _about(make: Any) -> str:
    """The first line of a model's description, and the sizes that its name stands for."""
    whole = getattr(make, "func", make)
    first = (inspect.getdoc(whole) or "").splitlines()[0].replace("`", "")
    if whole is make:
        return first
    names = list(inspect.signature(whole).parameters)
    fixed = [f"{name} {getattr(value, '__name__', value)}" for name, value in zip(names, make.args)]
    return f"{whole.__name__} of {', '.join(fixed)}. {first}"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{max(count, 1e5) / 1e6:.1f} MB"
