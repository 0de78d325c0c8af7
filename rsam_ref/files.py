"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to; what is there in the end becomes ``path``, safe on the disk.

    Errors name ``path``, and leave what was there before.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        try:
            yield partial
            _flush(partial, os.O_RDWR)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
    if os.name == "posix":  # elsewhere folders cannot be opened
        _flush(path.parent, os.O_RDONLY)  # so that the renaming survives a power cut


def write_whole(path: Path, contents: bytes) -> None:
    """Let ``contents`` be the file at ``path``, or leave what was there: never a part of it."""
    with whole(path) as partial:
        partial.write_bytes(contents)


def write_table(path: Path, columns: Iterable[Any], rows: Iterable[Iterable[Any]]) -> None:
    """Let a CSV table of these columns be the file at ``path``; None is an empty cell."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_whole(path, text.getvalue().encode())


def _flush(path: Path, how: int) -> None:
    descriptor = os.open(path, how)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
