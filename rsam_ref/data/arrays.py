"""Images and labels as NumPy's files: one .npz with both parts, or .npy and .npz files in pairs.

Which array is which is told by its name, and by that of its file: a word for the part (train, val,
test ...) and one for images (x, images, imgs ...) or labels (y, labels ...). So mnist.npz of Keras,
MedMNIST's files and Kuzushiji-49's are read as they are. Imported by `recognise`.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsam_ref.data import splits
from rsam_ref.data.errors import DataError, because, read_bytes
from rsam_ref.data.names import numbered, numbers_as_names
from rsam_ref.data.notes import Notes
from rsam_ref.data.samples import Source

SUFFIXES = (".npz", ".npy")
_IMAGES = {"x", "images", "image", "imgs", "img", "data", "inputs"}
_LABELS = {"y", "labels", "label", "targets", "target"}
_WORDS = re.compile(r"[^a-z0-9]+")
Key = tuple[str, str]


@dataclass(frozen=True)
class Held:
    """An array, with its name in the file (none in an .npy)."""

    path: Path
    name: str
    array: np.ndarray

    def __str__(self) -> str:
        return f"{self.path.name} {self.name}".strip()

    def wrong(self, reason: str) -> DataError:
        """An error that names the array."""
        return DataError(self.path, f"{self.name} {reason}")


def _meaning(name: str) -> Key | None:
    """The part and the kind ("images", "labels") that a name tells."""
    words = [word for word in _WORDS.split(name.lower()) if word]
    parts = [w for w in words if splits.is_train(w) or splits.held_out(w) is not None]
    kinds = ["images" for w in words if w in _IMAGES] + ["labels" for w in words if w in _LABELS]
    return (parts[0], kinds[0]) if parts and len(set(kinds)) == 1 else None


def files_of_arrays(names: Iterable[str]) -> list[str]:
    """Those of a folder's files that may be arrays."""
    return sorted(name for name in names if name.lower().endswith(SUFFIXES))


def read_arrays(where: Path) -> Source:
    """The images and labels of a folder's files, or of one .npz.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, as bytes or as fractions 0
    to 1; labels whole numbers (N,) or (N, 1). Objects are not read: they would be unpickled.
    """
    notes = Notes()
    folder = where if where.is_dir() else where.parent
    files = (
        [where]
        if where.is_file()
        else [where / name for name in files_of_arrays(path.name for path in where.iterdir())]
    )
    found: dict[Key, Held] = {}
    others = []
    for path in files:
        for name, array in _contents(path):
            key = _meaning(f"{path.stem} {name}") or _meaning(name)
            if key is None:
                others.append(str(Held(path, name, array)))
                notes.leave_out(others[-1], "neither images nor labels by name")
            elif key in found:
                raise DataError(
                    path, f"holds the {key[1]} of {key[0]}, as {found[key]} does; give one file"
                )
            else:
                found[key] = Held(path, name, array)
    if not found:
        raise DataError(
            where,
            f"has {', '.join(others[:5]) or 'no array'}, and none that is called x_train, y_train, "
            "x_test or y_test, or likewise",
        )
    whole = {part for part, _ in found if {(part, "images"), (part, "labels")} <= found.keys()}
    if lacking := sorted({part for part, _ in found} - whole):
        kinds = [kind for kind in ("images", "labels") if (lacking[0], kind) not in found]
        raise DataError(where, f"has no {kinds[0]} of {lacking[0]}")
    train, test, unused = splits.choose(where, whole)
    for part in unused:
        count = len(found[part, "labels"].array)
        notes.tell(f"{part} is not used ({count:,} samples): {test} is tested on")
    y_train, y_test = (_labels(found[part, "labels"]) for part in (train, test))
    classes, first = _classes(where, folder / "classes.tsv", y_train, y_test)
    for part, labels in ((train, y_train), (test, y_test)):
        if labels.min() < first or labels.max() >= first + len(classes):
            wrong = labels.min() if labels.min() < first else labels.max()
            named = f"{len(classes)} classes, from {first} on"
            raise found[part, "labels"].wrong(f"has label {wrong}, but classes.tsv names {named}")
    y_train, y_test = y_train - first, y_test - first
    x_train, x_test = (_images(found[part, "images"], notes) for part in (train, test))
    for part, x, y in ((train, x_train, y_train), (test, x_test, y_test)):
        if len(x) != len(y):
            raise DataError(where, f"has {len(x)} images of {part}, but {len(y)} labels")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            where,
            f"has images of shape {x_train.shape[1:]} in {train}, {x_test.shape[1:]} in {test}",
        )
    return Source(
        where.resolve().stem, classes, (x_train, y_train), (x_test, y_test), notes=notes.lines
    )


def _contents(path: Path) -> list[tuple[str, np.ndarray]]:
    """The arrays in a file, with their names in it."""
    if not read_bytes(path, 6).startswith((b"PK", b"\x93NUMPY")):
        raise DataError(path, "is no file of NumPy's, whatever it is called; get it again")
    try:
        with open(path, "rb") as file:  # np.load leaves its own open where a file is damaged
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return [("", loaded)]
            return [("" if name == "arr_0" else name, loaded[name]) for name in loaded.files]
    except OSError as error:
        raise DataError(path, f"cannot be read: {because(error)}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, SyntaxError) as error:
        reason = f"is damaged, or holds more than plain arrays ({error})"
        if "Object arrays" in str(error):
            reason = "holds objects, which would have to be unpickled; save it as plain numbers"
        raise DataError(path, reason) from None


def _classes(
    where: Path, names: Path, train: np.ndarray, test: np.ndarray
) -> tuple[tuple[str, ...], int]:
    """The names of the classes, and the label of the first one: 0, or 1 where names begin so."""
    if names.exists():
        return numbered(names)
    count = int(max(train.max(), test.max())) + 1
    return numbers_as_names(where, count, len(train) + len(test)), 0


def _labels(held: Held) -> np.ndarray:
    """Labels (N,) int64."""
    array = held.array
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        hint = "; of one-hot rows take argmax(1)" if array.ndim == 2 else ""
        raise held.wrong(
            f"holds values of shape {array.shape} ({array.dtype}) where labels (N,) in whole "
            f"numbers should be{hint}"
        )
    if not len(array):
        raise held.wrong("holds no label")
    if array.min() < 0 or array.max() > np.iinfo(np.int64).max:
        wrong = array.min() if array.min() < 0 else array.max()
        raise held.wrong(f"has label {wrong}; number the classes from 0 on")
    return array.astype(np.int64)


def _images(held: Held, notes: Notes) -> np.ndarray:
    """Images (N, C, H, W) as bytes."""
    array = held.array
    if array.ndim == 3:
        array = array[:, None]  # (N, H, W) -> (N, 1, H, W)
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise held.wrong(
            f"holds images of shape {held.array.shape}; they are (N, H, W), (N, H, W, C) or "
            "(N, C, H, W) with 1 or 3 channels"
        )
    if 0 in array.shape:
        raise held.wrong(f"holds no image: its shape is {held.array.shape}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "iuf":
        raise held.wrong(f"holds {array.dtype}; save it as uint8, 0 to 255")
    low, high = array.min(), array.max()
    if (filled := from_fractions(array)) is not None:
        notes.tell(f"{held.path.name}: fractions from {low:g} to {high:g} are brought to 0 .. 255")
        return filled
    if array.dtype.kind in "iu" and low >= 0 and high <= 255:
        return array.astype(np.uint8)
    hint = "; save it as uint8" if low >= 0 and high <= 255 else ""
    raise held.wrong(
        f"holds values from {low:g} to {high:g} ({array.dtype}); images are bytes, or fractions "
        f"from 0 to 1{hint}"
    )


def from_fractions(array: np.ndarray) -> np.ndarray | None:
    """An array of fractions from 0 to 1 as bytes from 0 to 255; None for any other."""
    if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        return np.round(array * 255).astype(np.uint8)
    return None
