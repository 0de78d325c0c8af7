"""What all commands share: where they print, and how an error becomes one line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(emoji=False)  # a name such as mine.py:five is no emoji
errors = Console(stderr=True, emoji=False)

Backend = Annotated[
    str,
    typer.Option(
        help="Where arrays live: numpy; cupy, an NVIDIA GPU; dpnp, an Intel one.",
        envvar="RSAM_REF_BACKEND",
    ),
]

Kernels = Annotated[
    str,
    typer.Option(
        help="fast; plain: the definitions as they read; or onednn: Intel's library, if installed.",
        envvar="RSAM_REF_KERNELS",
    ),
]
Threads = Annotated[
    int | None, typer.Option(help="Threads of the fast kernels.  [default: one a core]")
]

Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Do the runs on a Dask cluster: tcp://HOST:PORT of its scheduler, or local.",
    ),
]

NetworkWeights = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A network's weights, safetensors or npz; repeatable."),
]
NetworkData = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="A network's data, digits or a folder, as train takes them."),
]
NetworkLoss = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.py:NAME",
        help="A network's loss, of output and target, the mean.  [default: cross-entropy]",
    ),
]
NetworkForward = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.py:NAME",
        help="A function of model and batch: output and target.  [default: model(x), y]",
    ),
]
NetworkBatchSize = Annotated[int, typer.Option(help="Samples at a time, of a network on --data.")]

Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run of rsam-ref train, or its checkpoint.")
]
ImageSize = Annotated[int | None, typer.Option(help="Pixels.  [default: the model's usual]")]
Channels = Annotated[int | None, typer.Option(help="[default: the model's usual]")]
Classes = Annotated[int, typer.Option(help="How many the model tells apart.")]
ModelOptions = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Such as patch=4; repeatable.")
]


class Whose:
    """Of several processes that do a command together: how the error of one says whose it is."""

    told: Callable[[str], str] = staticmethod(lambda message: "")


def fail(message: str) -> None:
    """One line on the error output: why a command ends."""
    warn(Whose.told(message) + message)


def warn(message: str) -> None:
    """One line on the error output."""
    errors.print(f"rsam-ref: {message}", highlight=False, soft_wrap=True, markup=False)


def say(message: str) -> None:
    """One line on the output, as it is."""
    console.print(message, highlight=False, soft_wrap=True, markup=False)


INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the signal's number."""


def interrupted(message: str) -> typer.Exit:
    """What ends a command after Ctrl-C: one line that says what is kept, and the exit code."""
    fail(message)
    return typer.Exit(INTERRUPTED)


def choose(backend: str, kernels: str | None = None, threads: int | None = None) -> None:
    """Let arrays live where --backend says. Raises ValueError or BackendError."""
    from rsam_backends import use_backend
    from rsam_backends.threads import set_threads

    use_backend(backend, kernels=kernels)
    set_threads(threads)


def note_line(note: str) -> str:
    """A note of a reader of data, as it is told."""
    return f"Of the data: {note}."


def data_lines(run: Any) -> list[str]:
    """What is told of a run's data: its readers' notes, and the damaged pictures it leaves out."""
    lines = [note_line(note) for note in run.data.notes]
    if run.recipe.skip_damaged:
        lines.append(
            f"Of the data: {left_out(len(run.left_out))}; {run.folder}/damaged.json lists them."
        )
    return lines


def left_out(n: int) -> str:
    """How many damaged pictures a run leaves out, in words."""
    return f"{n:,} damaged picture{' is' if n == 1 else 's are'} left out"


def labels(models: list[Any]) -> list[str]:
    """A short name for each, a longer one where names meet."""
    labels = [model.name for model in models]
    if len(set(labels)) < len(labels):
        labels = [str(model.path) for model in models]
    if len(set(labels)) < len(labels):
        labels = [f"{i + 1}: {label}" for i, label in enumerate(labels)]
    return labels


@contextmanager
def usage_errors() -> Iterator[None]:
    """Settings that make no sense end in one line and exit code 2; bad data is no such setting."""
    from rsam_ref.data.errors import DataError

    try:
        yield
    except DataError:
        raise
    except ValueError as error:
        fail(str(error))
        raise typer.Exit(2) from None


def name_and_value(text: str, option: str = "model-option") -> tuple[str, Any]:
    """What --model-option takes, NAME=VALUE; the value as TOML, or a word without its quotes."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--{option} {text}: write it as NAME=VALUE")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def progress_bar(on: Console = console, *, transient: bool = False) -> Progress:
    """A bar that tells what is done of how many, and how long the rest will take.

    A ``transient`` one is gone when it is done, or fails; where nothing can be taken back, as in a
    file, it is not shown.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=on,
        transient=transient,
        disable=transient and not on.is_terminal,
    )
