"""`rsam-ref tutorials`: the tutorials as files to run and to change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsam_ref.commands.terminal import say


def tutorials(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where they go; made if it is not there.")
    ],
) -> None:
    """Copy the eleven tutorials into a folder, with their solutions, to run and to change.

    They run as scripts, in VS Code, or as notebooks; README.md there says how. Each has two
    exercises and checks the answers. No file is overwritten.
    """
    from rsam_ref.teaching.tutorials import copy

    wrote = copy(folder)
    first = next(path for path in wrote if path.name.startswith("01_"))
    say(f"{sum(path.name[0].isdigit() and path.parent == folder for path in wrote)} tutorials")
    for path in wrote:
        say(f"  {path}")
    say(f"Begin with: python {first}")
