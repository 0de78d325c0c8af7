"""Tables beside pictures that tell their classes, as Hugging Face's image folders have them.

metadata.csv, or metadata.jsonl, with a column file_name and one for the class; in the folder of a
part, or in the one above with the part in the names. Imported by `folder`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rsam_ref.data.errors import DataError, read_lines

NAMES = ("metadata.csv", "metadata.jsonl")
CLASS_COLUMNS = ("label", "labels", "class", "class_name", "category", "target")


@dataclass(frozen=True)
class Labels:
    """The class of each picture by its name below the table's folder."""

    path: Path
    by_name: dict[str, str]


def read(folder: Path, parts: Sequence[str]) -> Labels | None:
    """The classes that a folder's table tells. None if there is none, or it tells no class.

    With ``parts`` only a table whose names begin with one of them counts.
    """
    path = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if path is None:
        return None
    rows = _csv(path) if path.suffix == ".csv" else _jsonl(path)
    columns = dict.fromkeys(column for row in rows for column in row)
    if "file_name" not in columns:
        raise DataError(path, f"has no column file_name, but {', '.join(map(str, columns))}")
    column = next((name for name in CLASS_COLUMNS if name in columns), None)
    if column is None:
        if any(entry.is_dir() for entry in folder.iterdir()):
            return None  # the classes are the sub-folders
        raise DataError(
            path, f"has the columns {', '.join(columns)}; the one with the class is called label"
        )
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        name, label = row.get("file_name"), row.get(column)
        if not name or label is None or label == "":
            raise DataError(path, f"row {number} lacks its file_name or its {column}")
        pure = PurePosixPath(str(name))
        if pure.is_absolute() or ".." in pure.parts:
            raise DataError(path, f"row {number} leads out of its folder: {name}")
        if str(pure) in found:
            raise DataError(path, f"row {number} names {name} once more")
        found[str(pure)] = str(label)
    if parts and not any(name.split("/")[0] in parts for name in found):
        raise DataError(path, f"names no picture in {' or '.join(parts)}")
    return Labels(path, found)


def of_part(whole: Labels, part: str) -> Labels:
    """Those of a table above the parts that are of one of them."""
    inside = f"{part}/"
    return Labels(
        whole.path,
        {
            name.removeprefix(inside): label
            for name, label in whole.by_name.items()
            if name.startswith(inside)
        },
    )


def in_order(labels: Iterable[str]) -> list[str]:
    """Classes in alphabetical order; if all are whole numbers, as numbers."""
    labels = list(labels)
    if all(label.isdecimal() and str(int(label)) == label for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)


def _csv(path: Path) -> list[dict[str, Any]]:
    rows = list(csv.DictReader(read_lines(path)))
    if any(None in row for row in rows):
        raise DataError(path, "has a row with more fields than there are columns")
    return rows


def _jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(path, f"line {number} is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(path, f"line {number} is no JSON object")
        rows.append(row)
    return rows
