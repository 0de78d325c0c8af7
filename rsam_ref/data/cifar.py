"""CIFAR-10 and CIFAR-100 in their official binary form.

A record is one label byte (CIFAR-10) or two, coarse and fine (CIFAR-100), then 3,072 bytes: the
red, green and blue planes, 32 x 32 each. A. Krizhevsky, "Learning multiple layers of features from
tiny images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from rsam_ref.data.errors import DataError, read_bytes, read_lines
from rsam_ref.data.samples import Source

CIFAR10_BATCH = re.compile(r"data_batch_(\d+)\.bin")
_PIXELS = 3 * 32 * 32


def read_cifar10(folder: Path) -> Source:
    """data_batch_1.bin, data_batch_2.bin, ... and test_batch.bin; names from batches.meta.txt.

    The files may hold fewer records than the official 10,000. The fine points are `read_cifar`'s.
    """
    numbers = sorted(
        int(found[1]) for path in folder.iterdir() if (found := CIFAR10_BATCH.fullmatch(path.name))
    )
    gap = next((i for i, number in enumerate(numbers, 1) if i != number), None)
    if gap or not numbers:
        raise DataError(folder / f"data_batch_{gap or 1}.bin", "is missing; fetch the set again")
    parts = [_read(folder / f"data_batch_{i}.bin", (10,), 10_000) for i in numbers]
    images, labels = (np.concatenate(part) for part in zip(*parts))
    return Source(
        "cifar10",
        _names(folder / "batches.meta.txt", 10),
        (images, labels),
        _read(folder / "test_batch.bin", (10,), 10_000),
    )


def read_cifar100(folder: Path) -> Source:
    """train.bin and test.bin with the 100 fine labels; names from fine_label_names.txt."""
    return Source(
        "cifar100",
        _names(folder / "fine_label_names.txt", 100),
        _read(folder / "train.bin", (20, 100), 50_000),
        _read(folder / "test.bin", (20, 100), 10_000),
    )


def _read(path: Path, classes: tuple[int, ...], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels of the last kind; ``classes`` bounds each label byte."""
    size = len(classes) + _PIXELS
    if not path.exists():
        raise DataError(path, "is missing; fetch the set again")
    raw = read_bytes(path, most * size + 1)
    if not raw or len(raw) % size or len(raw) > most * size:
        n = len(raw) // size
        reason = "is empty"
        if raw:
            reason = f"has {len(raw)} bytes: {n} records of {size} bytes, then {len(raw) % size}"
        if len(raw) > most * size:
            reason = f"has more than the official {most} records of {size} bytes"
        raise DataError(path, f"{reason}; fetch the file again")
    records = np.frombuffer(raw, np.uint8).reshape(-1, size)  # (N, labels + pixels)
    for column, bound in enumerate(classes):
        if len(wrong := np.flatnonzero(records[:, column] >= bound)):
            raise DataError(
                path,
                f"label {records[wrong[0], column]} at byte {wrong[0] * size + column}, but there "
                f"are {bound} classes; fetch the file again",
            )
    images = records[:, len(classes) :].reshape(-1, 3, 32, 32)  # (N, 3072) -> (N, 3, 32, 32)
    return np.ascontiguousarray(images), records[:, len(classes) - 1].astype(np.int64)


def _names(path: Path, count: int) -> tuple[str, ...]:
    """One class name a line; the numbers 0 .. count - 1 if there is no such file."""
    if not path.exists():
        return tuple(map(str, range(count)))
    names = tuple(line.strip() for line in read_lines(path))
    if len(names) != count or not all(names):
        raise DataError(path, f"has {len(names)} lines where {count} class names should be")
    return names
