"""The damaged pictures that a run leaves out: found before its first step, kept in its folder.

damaged.json tells what is wrong with each, by its name. Whoever loads the data of the run reads it
again, so the run goes on with the same pictures, however those that it does without change.
"""

from __future__ import annotations

import json
from pathlib import Path

from rsam_ref.data.errors import DataError
from rsam_ref.files import write_whole
from rsam_ref.training.recipe import Recipe

NAME = "damaged.json"


def write(folder: Path, damaged: dict[str, str]) -> None:
    """Keep the list in a run's folder."""
    text = json.dumps(damaged, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / NAME, text.encode())


def read(folder: Path, settings: Recipe) -> dict[str, str]:
    """The list of the run in a folder; {} where it did not ask for one."""
    if not settings.skip_damaged:
        return {}
    path = folder / NAME
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(
            path,
            f"cannot be read ({error}): it lists the pictures that this run leaves out; put it "
            "back, or begin another run",
        ) from None
