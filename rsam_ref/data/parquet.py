"""Tables of encoded pictures, as Hugging Face keeps data sets: parquet files, some for each part.

The picture is a column of bytes, or of structs (bytes, path); the class a column of whole numbers,
whose names the file's own metadata may tell, or of words. Needs pyarrow, the extra ``parquet``. The
pictures stay in memory as they are encoded. Imported by `recognise`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from rsam_ref.data import splits
from rsam_ref.data.augment import pillow
from rsam_ref.data.errors import DamagedImage, DataError, refuse_pointer
from rsam_ref.data.metadata import in_order
from rsam_ref.data.names import numbers_as_names
from rsam_ref.data.notes import Notes
from rsam_ref.data.parquet_files import Tables, check_shards
from rsam_ref.data.samples import Pictures, Source, listed

_LABELS = ("label", "labels", "fine_label", "class", "target")
_IMAGES = ("image", "img", "picture")


@cache
def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            "pyarrow", 'is missing, and parquet files need it: pip install "rsam-ref[parquet]"'
        ) from None
    return pyarrow


class Table(Pictures):
    """Pictures that are the bytes of a column, by the names "FILE#ROW"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sizes: dict[str, int] = {}
        self._bytes: dict[str, Any] = {}  # the column of each file

    def add(self, file: str, column: Any) -> list[str]:
        """The names of the pictures of a file, whose column is given."""
        self._bytes[file] = column
        names = [f"{file}#{row}" for row in range(len(column))]
        lengths = _pyarrow().compute.binary_length(column).fill_null(0).to_pylist()
        self.sizes |= dict(zip(names, lengths))
        return names

    def size(self, name: str) -> int:
        """Of the bytes in the column."""
        if not self.sizes[name]:
            raise DamagedImage(self.path(name), "holds no bytes of a picture", "remove the row")
        return self.sizes[name]

    def path(self, name: str) -> Path:
        """The file and the row."""
        return self.folder / name

    def open(self, name: str) -> BinaryIO:
        """The bytes, as a file that Pillow reads."""
        file, _, row = name.rpartition("#")
        return io.BytesIO(self._bytes[file][int(row)].as_buffer())


def read_parquet(tables: Tables, skip: Collection[str] = (), *, checked: bool = True) -> Source:
    """The pictures and labels of a set's parquet files; those named in ``skip`` left out.

    With ``checked`` a row without a picture is an error; without, it is listed. Where files number
    the classes otherwise, they are matched by name.
    """
    pillow()  # it is missed here rather than in the first batch
    _pyarrow()
    notes = Notes()
    train, test, unused = splits.choose(tables.home, tables.parts)
    for part in unused:
        count = sum(_count(path) for path in tables.parts[part])
        notes.tell(f"{part} is not used ({count:,} rows): {test} is tested on")
    for part in (train, test):
        if len(series := check_shards(tables.home, part, tables.parts[part])) > 1:
            notes.tell(f"{part} is all of {', '.join(series)}")
    pictures = Table(tables.base)
    read = {part: [_columns(path, notes) for path in tables.parts[part]] for part in (train, test)}
    first = next((own for part in read.values() for own in part if own.names), None)
    labels = [label for own in read[train] for label in own.labels]
    classes, number = _classes(tables.home, first.names if first else None, labels)
    rows: dict[str, list[tuple[str, int]]] = {train: [], test: []}
    for part, files in read.items():
        for own in files:
            numbers = _matched(own, first, number, notes)
            file = str(own.path.relative_to(tables.base))
            for name, label in zip(pictures.add(file, own.column), own.labels):
                if label not in numbers:
                    what = f"is of the class {own.called(label)}, of {len(classes)} known"
                    raise DataError(tables.base / name, what)
                if name in skip:
                    continue
                if checked:
                    pictures.size(name)
                rows[part].append((name, numbers[label]))
    return Source(
        tables.base.resolve().name,
        classes,
        listed(rows[train]),
        listed(rows[test]),
        pictures,
        notes.lines,
    )


def _count(path: Path) -> int:
    """The rows of a file that is not used; 0 of one that is damaged."""
    arrow = _pyarrow()
    try:
        return int(arrow.parquet.read_metadata(path).num_rows)
    except (arrow.ArrowException, OSError):
        return 0


def _matched(
    own: Columns, first: Columns | None, number: dict[Any, int], notes: Notes
) -> dict[Any, int]:
    """The number of each label of a file: by its name, where the file numbers them otherwise."""
    if not first or not own.names or own.names == first.names:
        return number
    notes.tell(
        f"{own.path.name} does not name the classes as {first.path.name} does: they are matched by "
        "name"
    )
    return {i: number[name] for i, name in enumerate(own.names) if name in number}


def _classes(
    folder: Path, names: list[str] | None, labels: list[Any]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """The names of the classes, and the number of each label: a number, or a name."""
    if not labels:
        raise DataError(folder, "has no row to train on")
    different = set(labels)
    if names is None and all(isinstance(label, int) for label in different):
        if min(different) < 0:
            raise DataError(folder, f"has a label {min(different)}; number the classes from 0 on")
        names = list(numbers_as_names(folder, max(different) + 1, len(labels)))
        return tuple(names), {number: number for number in range(len(names))}
    if names is None:
        if not all(isinstance(label, str) for label in different):
            raise DataError(folder, "has labels that are numbers, and others that are words")
        names = in_order(different)
        return tuple(names), {name: number for number, name in enumerate(names)}
    by_name: dict[Any, int] = {name: number for number, name in enumerate(names)}
    return tuple(names), by_name | {number: number for number in range(len(names))}


@dataclass(frozen=True)
class Columns:
    """Of a file the column of encoded pictures, the labels, and the classes' names if told."""

    path: Path
    column: Any
    labels: list[Any]
    names: list[str] | None

    def called(self, label: Any) -> Any:
        """A label's name, where the file tells it."""
        told = self.names and isinstance(label, int) and 0 <= label < len(self.names)
        return self.names[label] if self.names and told else label


def _columns(path: Path, notes: Notes) -> Columns:
    """What is read of a file."""
    arrow = _pyarrow()
    try:
        schema = arrow.parquet.read_schema(path)
        features = _features(schema)
        picture = _picture_column(path, schema, features, notes)
        label = _label_column(path, schema, features, notes)
        table = arrow.parquet.read_table(path, columns=[picture, label])
    except (arrow.ArrowException, OSError) as error:
        refuse_pointer(path)
        raise DataError(path, f"is damaged, or no parquet file ({error})") from None
    column = table.column(picture)
    if arrow.types.is_struct(column.type):
        column = arrow.compute.struct_field(column, "bytes")
    labels = table.column(label).to_pylist()
    if None in labels:
        raise DataError(path, f"row {labels.index(None)} has no {label}")
    names = features.get(label, {}).get("names")
    return Columns(path, column, labels, list(map(str, names)) if names else None)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What Hugging Face writes of each column into a file's own metadata."""
    told = (schema.metadata or {}).get(b"huggingface")
    try:
        features = dict(json.loads(told)["info"]["features"]) if told else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: of for name, of in features.items() if isinstance(of, dict)}


def _picture_column(
    path: Path, schema: Any, features: dict[str, dict[str, Any]], notes: Notes
) -> str:
    types = _pyarrow().types

    def holds_bytes(name: str) -> bool:
        kind = schema.field(name).type
        if types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    found = [name for name in schema.names if holds_bytes(name)]
    named = [name for name in found if name in _IMAGES]
    told = [name for name in found if features.get(name, {}).get("_type") == "Image"]
    if not named and not told:
        return _only(path, found, "of pictures (bytes, or a struct of bytes and path)", schema)
    return _first(named + told + found, "pictures", notes)


def _label_column(
    path: Path, schema: Any, features: dict[str, dict[str, Any]], notes: Notes
) -> str:
    types = _pyarrow().types
    named = [name for name in _LABELS if name in schema.names]
    told = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if named:
        label = _first(named + told, "classes", notes)
    else:
        known = told or [name for name in schema.names if types.is_integer(schema.field(name).type)]
        label = _only(path, known, "of classes (whole numbers, called label)", schema)
    kind = schema.field(label).type
    value = kind.value_type if types.is_dictionary(kind) else kind
    allowed = (types.is_integer, types.is_boolean, types.is_string, types.is_large_string)
    if not any(is_one(value) for is_one in allowed):
        raise DataError(
            path, f"has a column {label} of type {kind}; a class is a whole number or a word"
        )
    return label


def _first(known: list[str], what: str, notes: Notes) -> str:
    """The first of the columns that may be meant; the others are told."""
    known = list(dict.fromkeys(known))
    if len(known) > 1:
        notes.tell(
            f"the {what} are those of the column {known[0]}; not used: {', '.join(known[1:])}"
        )
    return known[0]


def _only(path: Path, found: list[str], what: str, schema: Any) -> str:
    if len(found) != 1:
        several = f"{len(found)} columns" if found else "no column"
        raise DataError(path, f"has {several} {what}; it has {', '.join(schema.names)}")
    return found[0]
