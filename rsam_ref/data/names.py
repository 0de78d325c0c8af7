"""The names of classes from a text file beside the data.

Imports the errors alone. Imported by the readers.
"""

from __future__ import annotations

from pathlib import Path

from rsam_ref.data.errors import DataError, read_lines


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


def by_number(path: Path, labels: range) -> tuple[str, ...]:
    """The names of the file where it is there, else the labels themselves."""
    if not path.exists():
        return tuple(map(str, labels))
    return numbered(path)[0]
