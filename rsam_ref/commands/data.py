"""`rsam-ref data`: the public data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from rsam_ref.commands.terminal import (
    console,
    interrupted,
    say,
    usage_errors,
)
from rsam_ref.commands.train import Option

data = typer.Typer(no_args_is_help=True, help="Get the public data sets.")


@data.callback()
def _data() -> None:
    pass


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="mnist, fashion-mnist, cifar10 or cifar100.")],
    into: Annotated[Path, Option(metavar="DIR", help="Where data sets are kept.")] = Path("data"),
) -> None:
    """Download a data set, check it against its published checksum, and unpack it.

    A download that was broken off is gone on with.
    """
    from rsam_ref.data.fetch import fetch as get

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        tasks: dict[str, Any] = {}

        def show(done: int, total: int, file: str) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(file, total=total)
            progress.update(tasks[file], completed=done)

        try:
            with usage_errors():
                folder = get(name, into, progress=show)
        except KeyboardInterrupt:
            progress.stop()
            raise interrupted(
                "interrupted; what was downloaded is kept: run the command again"
            ) from None
    say(f"{name} is in {folder}. Train on it with: rsam-ref train --data {folder}")
