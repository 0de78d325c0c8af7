"""IDX files, the format of MNIST: a magic number, the sizes of the axes, the values.

All numbers are big-endian. Magic: two zero bytes, a code for the type, the number of axes.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np

from rsam_ref.data.errors import DataError, read_bytes, read_lines
from rsam_ref.data.samples import Source

_TYPES: dict[int, np.dtype] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}

IDX_NAMES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
# Fashion-MNIST's files are named like MNIST's; it is known by its 60,000 training labels (SHA-256).
_FASHION = "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7"
_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, gzipped or not.

    Raises DataError for a file that cannot be read, is truncated, too long, damaged or of another
    kind; the message says at which byte (of the unpacked contents).
    """
    raw = read_bytes(path)
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                path, f"the gzip data is damaged ({error}); fetch the file again"
            ) from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise DataError(
            path,
            f"no IDX file: it starts with {raw[:4].hex(' ') or 'nothing'} at byte 0, where "
            "00 00, a type and the number of axes should stand; fetch the file again",
        )
    dtype, ndim = _TYPES[raw[2]], raw[3]
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise DataError(
            path,
            f"ends at byte {len(raw)}, inside its header of {start} bytes; fetch the file again",
        )
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + dtype.itemsize * math.prod(shape)
    if len(raw) != expected:
        raise DataError(
            path,
            f"{len(raw)} bytes, but a header of {start} bytes and values of shape {shape} "
            f"({dtype}) make {expected}; fetch the file again",
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx_folder(folder: Path) -> Source:
    """Images (N, 1, H, W) and labels of the four files of MNIST or of a set made like it.

    Classes are the lines "number<tab>name" of classes.tsv, else 0 .. 9. DataError where images and
    labels do not fit together.
    """
    x_train, y_train, train_file = _read_part(folder, "train")
    x_test, y_test, test_file = _read_part(folder, "t10k")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            folder,
            f"training images are {x_train.shape[1]} x {x_train.shape[2]} and test images "
            f"{x_test.shape[1]} x {x_test.shape[2]}; they belong to different sets",
        )
    name, classes = folder.resolve().name, tuple(map(str, range(10)))
    if (names := folder / "classes.tsv").exists():
        classes = _numbered(names)
    elif hashlib.sha256(y_train.astype("u1").tobytes()).hexdigest() == _FASHION:
        name, classes = "fashion-mnist", _FASHION_CLASSES
    for labels, file in ((y_train, train_file), (y_test, test_file)):
        if len(wrong := np.flatnonzero((labels < 0) | (labels >= len(classes)))):
            raise DataError(
                file,
                f"label {labels[wrong[0]]} at byte {8 + wrong[0] * labels.itemsize}, but there are "
                f"{len(classes)} classes; fetch the file again, or list the classes in classes.tsv",
            )
    return Source(
        name,
        classes,
        (x_train[:, None], y_train.astype(np.int64)),  # (N, H, W) -> (N, 1, H, W)
        (x_test[:, None], y_test.astype(np.int64)),
    )


def _numbered(path: Path) -> tuple[str, ...]:
    """The names of the labels 0, 1, ... from a file of lines "number<tab>name", in any order."""
    names = class_names(path)
    try:
        return tuple([names[str(number)] for number in range(len(names))])
    except KeyError as missing:
        raise DataError(
            path, f"no name for the label {missing.args[0]}; number the classes from 0 on"
        ) from None


def class_names(path: Path) -> dict[str, str]:
    """The names in a file of lines "key<tab>name", by their keys."""
    names = {}
    for number, line in enumerate(read_lines(path), 1):
        key, tab, name = line.partition("\t")
        if not (tab and key.strip() and name.strip()):
            raise DataError(path, f"line {number} is not a key, a tab and a name")
        names[key.strip()] = name.strip()
    return names


def _read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray, Path]:
    images_file, labels_file = (_find(folder, name) for name in IDX_NAMES if part in name)
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.ndim != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise DataError(
            images_file,
            f"holds values of shape {images.shape} ({images.dtype}) where images (N, H, W) in "
            "uint8 should be",
        )
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise DataError(
            labels_file,
            f"holds values of shape {labels.shape} ({labels.dtype}) where labels (N,) in whole "
            "numbers should be",
        )
    if len(images) != len(labels):
        raise DataError(
            labels_file,
            f"{len(labels)} labels, but {len(images)} images in {images_file.name}; "
            "they belong to different sets",
        )
    return images, labels, labels_file


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise DataError(folder / name, "is missing, and so is its .gz; fetch the set again")
