"""CIFAR-10 and CIFAR-100, in their binary form and as Python pickles.

A record is one label byte (CIFAR-10) or two, coarse and fine (CIFAR-100), then 3,072 bytes: the
red, green and blue planes, 32 x 32 each. The Python version holds the same bytes as the rows of an
array; `pickles` reads it without unpickling. A. Krizhevsky, "Learning multiple layers of features
from tiny images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from rsam_backends.base import kind_of
from rsam_ref.data.errors import DataError, read_bytes, read_lines
from rsam_ref.data.pickles import read_pickle
from rsam_ref.data.samples import Source

CIFAR10_BATCH = re.compile(r"data_batch_(\d+)\.bin")
CIFAR10_PICKLE = re.compile(r"data_batch_(\d+)")
_PIXELS = 3 * 32 * 32


def read_cifar10(folder: Path) -> Source:
    """data_batch_1.bin, data_batch_2.bin, ... and test_batch.bin; names from batches.meta.txt.

    The files may hold fewer records than the official 10,000. The fine points are `read_cifar`'s.
    """
    paths = [folder / f"data_batch_{i}.bin" for i in _numbers(folder, CIFAR10_BATCH, ".bin")]
    return Source(
        "cifar10",
        _names(folder / "batches.meta.txt", 10),
        _joined([_read(path, (10,), 10_000) for path in paths]),
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


def read_cifar10_pickles(folder: Path) -> Source:
    """data_batch_1, data_batch_2, ... and test_batch; names from batches.meta."""
    paths = [folder / f"data_batch_{i}" for i in _numbers(folder, CIFAR10_PICKLE, "")]
    return Source(
        "cifar10",
        _pickled_names(folder / "batches.meta", "label_names", 10),
        _joined([_read_pickle(path, "labels", 10) for path in paths]),
        _read_pickle(folder / "test_batch", "labels", 10),
    )


def read_cifar100_pickles(folder: Path) -> Source:
    """Train and test, with the 100 fine labels; names from meta."""
    return Source(
        "cifar100",
        _pickled_names(folder / "meta", "fine_label_names", 100),
        _read_pickle(folder / "train", "fine_labels", 100),
        _read_pickle(folder / "test", "fine_labels", 100),
    )


def _numbers(folder: Path, pattern: re.Pattern[str], end: str) -> list[int]:
    """The numbers 1, 2, ... of the training batches that are there, without a gap."""
    numbers = sorted(
        int(found[1]) for path in folder.iterdir() if (found := pattern.fullmatch(path.name))
    )
    gap = next((i for i, number in enumerate(numbers, 1) if i != number), None)
    if gap or not numbers:
        raise DataError(folder / f"data_batch_{gap or 1}{end}", "is missing; fetch the set again")
    return numbers


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (np.concatenate(part) for part in zip(*parts))
    return images, labels


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


def _unpacked(path: Path) -> dict[str, Any]:
    """The dict in a pickle, its keys as text."""
    if not path.exists():
        raise DataError(path, "is missing; fetch the set again")
    held = read_pickle(path, read_bytes(path))
    if not isinstance(held, dict):
        raise DataError(path, f"holds {kind_of(held)} where CIFAR has a dict")
    return {_text(key): value for key, value in held.items()}


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _read_pickle(path: Path, key: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels of a batch."""
    held = _unpacked(path)
    for name in ("data", key):
        if name not in held:
            raise DataError(path, f"has no {name}, but {', '.join(held)}; fetch the file again")
    images, labels = held["data"], np.asarray(held[key])
    if not (
        isinstance(images, np.ndarray)
        and images.dtype == np.uint8
        and images.ndim in (2, 4)
        and len(images)
        and images[0].size == _PIXELS
    ):
        raise DataError(path, "has no rows of 3,072 bytes in data; fetch the file again")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        raise DataError(
            path, f"has {len(images)} images, and no whole number for each in {key}; fetch it again"
        )
    if len(wrong := np.flatnonzero((labels < 0) | (labels >= classes))):
        raise DataError(
            path, f"label {labels[wrong[0]]} of image {wrong[0]}, but there are {classes} classes"
        )
    images = images.reshape(-1, 3, 32, 32)  # (N, 3072) -> (N, 3, 32, 32)
    return np.ascontiguousarray(images), labels.astype(np.int64)


def _pickled_names(path: Path, key: str, count: int) -> tuple[str, ...]:
    if not path.exists():
        return tuple(map(str, range(count)))
    names = _unpacked(path).get(key)
    if not isinstance(names, list) or len(names) != count:
        raise DataError(path, f"has no list of {count} class names in {key}")
    return tuple(map(_text, names))


def _names(path: Path, count: int) -> tuple[str, ...]:
    """One class name a line; the numbers 0 .. count - 1 if there is no such file."""
    if not path.exists():
        return tuple(map(str, range(count)))
    names = tuple(line.strip() for line in read_lines(path))
    if len(names) != count or not all(names):
        raise DataError(path, f"has {len(names)} lines where {count} class names should be")
    return names
