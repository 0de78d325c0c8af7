"""Tables of encoded pictures, as Hugging Face keeps data sets: parquet files, some for each part.

The picture is a column of bytes, or of structs (bytes, path); the class a column of whole numbers,
whose names the file's own metadata may tell, or of words. Needs pyarrow, the extra ``parquet``. The
pictures stay in memory as they are encoded. Imported by `recognise`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from rsam_ref.data import splits
from rsam_ref.data.augment import pillow
from rsam_ref.data.errors import DamagedImage, DataError
from rsam_ref.data.metadata import in_order
from rsam_ref.data.notes import Notes
from rsam_ref.data.samples import Pictures, Source, listed

_FILE = re.compile(r"(?P<part>[A-Za-z]+)([-_.].*)?\.parquet")
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


def parquet_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each part: PART-00000-of-00001.parquet, or PART/0000.parquet."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")) + sorted(folder.glob("*/*.parquet")):
        named = _FILE.fullmatch(path.name)
        for part in (named["part"] if named else "", path.parent.name):
            if splits.is_train(part) or splits.held_out(part) is not None:
                found.setdefault(part, []).append(path)
                break
    return found


def read_parquet(folder: Path, skip: Collection[str] = (), *, checked: bool = True) -> Source:
    """The pictures and labels of a folder's parquet files; those named in ``skip`` left out.

    With ``checked`` a row without a picture is an error; without, it is listed.
    """
    pillow()  # it is missed here rather than in the first batch
    arrow = _pyarrow()
    notes = Notes()
    files = parquet_files(folder)
    train, test, unused = splits.choose(folder, files)
    for part in unused:
        count = sum(arrow.parquet.read_metadata(path).num_rows for path in files[part])
        notes.tell(f"{part} is not used ({count:,} rows): {test} is tested on")
    pictures = Table(folder)
    rows: dict[str, list[tuple[str, Any]]] = {train: [], test: []}
    known: list[str] | None = None
    for part, own in rows.items():
        for path in files[part]:
            column, labels, named = _columns(path)
            known = known or named
            own += zip(pictures.add(str(path.relative_to(folder)), column), labels)
    classes, number = _classes(folder, known, rows[train])
    for own in rows.values():
        for name, label in own:
            if label not in number:
                raise DataError(folder / name, f"is of the class {label}, of {len(classes)} known")
            if checked and name not in skip:
                pictures.size(name)
        own[:] = [(name, number[label]) for name, label in own if name not in skip]
    return Source(
        folder.resolve().name,
        classes,
        listed(rows[train]),
        listed(rows[test]),
        pictures,
        notes.lines,
    )


def _classes(
    folder: Path, known: list[str] | None, rows: list[tuple[str, Any]]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """The names of the classes, and each label's number."""
    if not rows:
        raise DataError(folder, "has no row to train on")
    if known:
        return tuple(known), {number: number for number in range(len(known))}
    labels = {label for _, label in rows}
    if all(isinstance(label, int) for label in labels):
        count = max(labels) + 1
        if min(labels) < 0:
            raise DataError(folder, f"has a label {min(labels)}; number the classes from 0 on")
        return tuple(map(str, range(count))), {number: number for number in range(count)}
    names = in_order(labels)
    return tuple(names), {name: number for number, name in enumerate(names)}


def _columns(path: Path) -> tuple[Any, list[Any], list[str] | None]:
    """The column of encoded pictures, the labels, and the names of the classes if they are told."""
    arrow = _pyarrow()
    try:
        schema = arrow.parquet.read_schema(path)
        features = _features(schema)
        picture = _picture_column(path, schema, features)
        label = _label_column(path, schema, features)
        table = arrow.parquet.read_table(path, columns=[picture, label])
    except (arrow.ArrowException, OSError) as error:
        raise DataError(path, f"is damaged, or no parquet file ({error})") from None
    column = table.column(picture)
    if arrow.types.is_struct(column.type):
        column = arrow.compute.struct_field(column, "bytes")
    labels = table.column(label).to_pylist()
    if None in labels:
        raise DataError(path, f"row {labels.index(None)} has no {label}")
    return column, labels, features.get(label, {}).get("names")


def _features(schema: Any) -> dict[str, Any]:
    """What Hugging Face writes of each column into a file's own metadata."""
    told = (schema.metadata or {}).get(b"huggingface")
    try:
        return dict(json.loads(told)["info"]["features"]) if told else {}
    except (ValueError, KeyError, TypeError):
        return {}


def _picture_column(path: Path, schema: Any, features: dict[str, Any]) -> str:
    types = _pyarrow().types

    def holds_bytes(name: str) -> bool:
        kind = schema.field(name).type
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return types.is_binary(kind) or types.is_large_binary(kind)

    found = [name for name in schema.names if holds_bytes(name)]
    for name in found:
        if features.get(name, {}).get("_type") == "Image" or name in _IMAGES:
            return name
    return _only(path, found, "of pictures (bytes, or a struct of bytes and path)", schema.names)


def _label_column(path: Path, schema: Any, features: dict[str, Any]) -> str:
    types = _pyarrow().types
    for name in _LABELS:
        if name in schema.names:
            return name
    found = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if not found:
        found = [name for name in schema.names if types.is_integer(schema.field(name).type)]
    return _only(path, found, "of classes (whole numbers, called label)", schema.names)


def _only(path: Path, found: list[str], what: str, columns: Iterable[str]) -> str:
    if len(found) != 1:
        several = f"{len(found)} columns" if found else "no column"
        raise DataError(path, f"has {several} {what}; it has {', '.join(columns)}")
    return found[0]
