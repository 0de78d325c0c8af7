"""The names of classes from a text file beside the data.

Imports the errors alone. Imported by the readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rsam_ref.data.errors import DataError, read_lines

MOST_UNASKED = 1000
"""So many classes may be more than there are samples: those of a few pictures of ImageNet."""


def first_of(names: Sequence[str], most: int) -> str:
    """The first of some names, and how many there are where they are more."""
    more = f", ... ({len(names)})" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def class_names(path: Path) -> dict[str, str]:
    """The names in a file of lines "key<tab>name", by their keys."""
    names = {}
    for number, line in enumerate(read_lines(path), 1):
        key, tab, name = line.partition("\t")
        if not (tab and key.strip() and name.strip()):
            raise DataError(path, f"line {number} is not a key, a tab and a name")
        names[key.strip()] = name.strip()
    return names


def numbered(path: Path) -> tuple[tuple[str, ...], int]:
    """The names of the labels from a file of lines "number<tab>name", in any order.

    With them the first number: 0, or 1 where the labels are counted from 1.
    """
    names = class_names(path)
    first = 0 if "0" in names or "1" not in names else 1
    try:
        return tuple([names[str(first + i)] for i in range(len(names))]), first
    except KeyError as missing:
        raise DataError(
            path, f"no name for the label {missing.args[0]}; number the classes without a gap"
        ) from None


def numbers_as_names(where: Path, count: int, samples: int) -> tuple[str, ...]:
    """The names of ``count`` classes that nothing names: their numbers.

    DataError where so few samples cannot be of so many: their labels are no numbers of classes.
    """
    if count > max(MOST_UNASKED, 2 * samples):
        raise DataError(
            where,
            f"has a label {count - 1} among {samples:,} samples; number the classes from 0 on "
            "without a gap",
        )
    return tuple(map(str, range(count)))
