"""The names that the parts of a data set go by: what is trained on, and what is held out.

Imports the errors alone. Imported by every reader that finds its parts by their names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rsam_ref.data.errors import DataError

TRAIN = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test", "testing", "t10k")
"""Names of the part that is tested on, the one that is taken first."""


def is_train(name: str) -> bool:
    """Whether a part of this name, in capitals or not, is trained on."""
    return name.lower() in TRAIN


def held_out(name: str) -> int | None:
    """The rank of a part that is held out, 0 for the one that is taken first; None for another."""
    return HELD_OUT.index(name.lower()) if name.lower() in HELD_OUT else None


def is_part(name: str) -> bool:
    """Whether a name is that of a part, trained on or held out."""
    return is_train(name) or held_out(name) is not None


def choose(where: Path, names: Iterable[str]) -> tuple[str, str, list[str]]:
    """Of the names of parts, which is trained on, which is tested on, and which are not used.

    DataError where one of the two is missing, or stands there twice (train and Train).
    """
    names = sorted(names)
    train = [name for name in names if is_train(name)]
    tests = sorted(
        (name for name in names if held_out(name) is not None),
        key=lambda name: (held_out(name), name),
    )
    if not train:
        raise DataError(where, f"has {', '.join(names) or 'nothing'}, but no part called train")
    if len(train) > 1:
        raise DataError(where, f"has {' and '.join(train)}; keep one of them")
    if not tests:
        raise DataError(
            where, f"has {train[0]} but none of {', '.join(HELD_OUT[:4])} beside it to test on"
        )
    return train[0], tests[0], tests[1:]
