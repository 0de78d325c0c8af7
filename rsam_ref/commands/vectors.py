"""`rsam-ref vectors`: published vectors, for implementations in any language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsam_ref.commands.terminal import say


def vectors(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where they go; made if it is not there.")
    ],
) -> None:
    """Write SAM and R-SAM number by number, to hold a port in any language against.

    Five steps of a small network in float64 and float32, every quantity of each: safetensors, a
    manifest (vectors.json), checksums, and verify.py, which recomputes all of it by itself.
    The files are the same bytes on every machine. No file is overwritten.
    """
    from rsam_ref.vectors.cases import ALGORITHMS, BASES
    from rsam_ref.vectors.write import VERSION, write

    wrote = write(folder)
    cases = f"{len(ALGORITHMS)} algorithms x {len(BASES)} base optimizers, float64 and float32"
    say(f"Vectors, version {VERSION}: {cases}")
    for path in wrote:
        say(f"  {path}")
    say(f"To check them: python {folder / 'verify.py'}")
