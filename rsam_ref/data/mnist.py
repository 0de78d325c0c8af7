"""MNIST and the sets that are made like it: pairs of IDX files, under all the names they go by.

MNIST's own names and those with a dot (Kaggle), a folder of the file's own name around each,
torchvision's folders above them, QMNIST's names and its labels of eight columns, EMNIST's splits,
whose pictures are stored transposed: they are set right here. Imported by `recognise`, `dataset`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rsam_ref.data.errors import DataError
from rsam_ref.data.idx import read_idx
from rsam_ref.data.names import numbered
from rsam_ref.data.notes import Notes
from rsam_ref.data.samples import Source

NAME = re.compile(
    r"(?P<set>emnist-(?P<split>[a-z]+)-|qmnist-|)(?P<part>train|t10k|test)[-_]"
    r"(?P<kind>images|labels)[-._]idx(?P<axes>[123])[-_](ubyte|int)(\.gz)?",
    re.IGNORECASE,
)
"""What the files are called."""

FOLDERS = ("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST")
"""torchvision's folders; the files lie in raw/ below each."""

# Fashion-MNIST's files are named like MNIST's; it is known by its 60,000 training labels (SHA-256).
_FASHION = "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7"
_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_DIGITS = tuple("0123456789")
_UPPER = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER = tuple("abcdefghijklmnopqrstuvwxyz")
_EMNIST = {  # G. Cohen et al., "EMNIST: an extension of MNIST to handwritten letters", 2017
    "byclass": _DIGITS + _UPPER + _LOWER,
    "bymerge": _DIGITS + _UPPER + tuple("abdefghnqrt"),
    "balanced": _DIGITS + _UPPER + tuple("abdefghnqrt"),
    "letters": _LOWER,
    "digits": _DIGITS,
    "mnist": _DIGITS,
}
_TRANSPOSED = (
    "EMNIST's pictures are stored transposed, and are not set right under these names; if it is "
    "EMNIST, call the files as it does (emnist-letters-train-images-idx3-ubyte ...)"
)


def sets_in(names: Iterable[str]) -> set[str]:
    """The beginnings of the sets whose files these are: "" for MNIST's own names."""
    return {found["set"].lower() for name in names if (found := NAME.fullmatch(name))}


def read_mnist(folder: Path, beginning: str) -> Source:
    """Images (N, 1, H, W) and labels of the four files that begin so.

    Classes are the lines "number<tab>name" of classes.tsv, else those of a known set, else 0 .. 9.
    DataError where images and labels do not fit together.
    """
    notes = Notes()
    x_train, y_train, train_file = _read_part(folder, beginning, "train", notes)
    x_test, y_test, test_file = _read_part(folder, beginning, "test", notes)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            folder,
            f"training images are {x_train.shape[1]} x {x_train.shape[2]} and test images "
            f"{x_test.shape[1]} x {x_test.shape[2]}; they belong to different sets",
        )
    classes, first = _classes(folder, beginning, y_train, y_test, notes)
    for labels, file in ((y_train, train_file), (y_test, test_file)):
        if len(wrong := np.flatnonzero((labels < first) | (labels >= first + len(classes)))):
            from_one = "; labels from 1 on need names from 1 on" if labels.min() == 1 else ""
            if first == 1 and labels.min() == 0 and (folder / "classes.tsv").exists():
                from_one = ", which numbers them from 1: number them from 0, as the labels are"
            header = 8 if labels.strides[0] == labels.itemsize else 12  # of a column of QMNIST's
            raise DataError(
                file,
                f"label {labels[wrong[0]]} at byte {header + wrong[0] * labels.strides[0]}, but "
                f"there are {len(classes)} classes; fetch the file again, or list the classes in "
                f"classes.tsv{from_one}",
            )
    if beginning.startswith("emnist"):
        notes.tell("EMNIST's pictures are stored transposed; they are set upright")
        x_train, x_test = (x.transpose(0, 2, 1) for x in (x_train, x_test))
    return Source(
        _name(folder, beginning, classes),
        classes,
        (x_train[:, None], y_train.astype(np.int64) - first),  # (N, H, W) -> (N, 1, H, W)
        (x_test[:, None], y_test.astype(np.int64) - first),
        notes=notes.lines,
    )


def _name(folder: Path, beginning: str, classes: tuple[str, ...]) -> str:
    """What the set is called: as its files are, as Fashion-MNIST is, else as the folder is."""
    if beginning:
        return beginning.strip("-")
    if classes == _FASHION_CLASSES:
        return "fashion-mnist"
    folder = folder.resolve()
    return folder.parent.name if folder.name == "raw" else folder.name


def _classes(
    folder: Path, beginning: str, train: np.ndarray, test: np.ndarray, notes: Notes
) -> tuple[tuple[str, ...], int]:
    """The names of the classes, and the label of the first one, 0 or 1."""
    if (names := folder / "classes.tsv").exists():
        return numbered(names)
    found = NAME.fullmatch(f"{beginning}train-images-idx3-ubyte")
    split = found["split"] if found else None
    if split:
        if split not in _EMNIST:
            raise DataError(folder, f"EMNIST has no split {split}, but {', '.join(_EMNIST)}")
        return _EMNIST[split], int(split == "letters")  # whose labels are 1 .. 26
    called = {part.lower().replace("-", "") for part in folder.resolve().parts[-2:]}
    if called & {"fashionmnist"} or hashlib.sha256(train.astype("u1").tobytes()).hexdigest() == (
        _FASHION
    ):
        return _FASHION_CLASSES, 0
    if "kmnist" in called:
        return _KUZUSHIJI, 0
    labels = np.unique(np.concatenate([train, test]))
    if labels[0] == 1 and len(labels) == 26 and labels[-1] == 26:
        notes.tell(f"labels 1 to 26 are taken as the letters a to z. {_TRANSPOSED}")
        return _LOWER, 1
    for split in ("balanced", "byclass"):
        if labels[0] == 0 and len(labels) == labels[-1] + 1 == len(_EMNIST[split]):
            notes.tell(f"{len(labels)} classes are taken as those of EMNIST {split}. {_TRANSPOSED}")
            return _EMNIST[split], 0
    if len(train) == 240_000 and labels[-1] == 9:
        notes.tell(f"it has as many pictures as EMNIST digits. {_TRANSPOSED}")
    return _DIGITS, 0


def _read_part(
    folder: Path, beginning: str, part: str, notes: Notes
) -> tuple[np.ndarray, np.ndarray, Path]:
    images_file = _find(folder, beginning, part, "images")
    labels_file = _find(folder, beginning, part, "labels")
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.ndim != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise DataError(
            images_file,
            f"holds values of shape {images.shape} ({images.dtype}) where images (N, H, W) in "
            "uint8 should be",
        )
    if labels.ndim == 2 and labels.shape[1] == 8 and labels.dtype == np.int32:
        notes.tell("labels of 8 columns are QMNIST's: the class is the first of them")
        labels = labels[:, 0]
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


def _find(folder: Path, beginning: str, part: str, kind: str) -> Path:
    """The file of a part, unpacked or not, in the folder or in one of the file's own name."""
    for path in sorted(folder.iterdir()):
        found = NAME.fullmatch(path.name)
        if (
            found
            and found["set"].lower() == beginning
            and found["kind"].lower() == kind
            and (found["part"].lower() == "train") == (part == "train")
        ):
            if path.is_dir():
                inside = [file for file in sorted(path.iterdir()) if NAME.fullmatch(file.name)]
                if not inside:
                    raise DataError(path, "is a folder where a file should be")
                return inside[0]
            return path
    stem = "train" if part == "train" else "test" if beginning else "t10k"
    name = f"{beginning}{stem}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
    raise DataError(folder / name, "is missing, and so is its .gz; fetch the set again")
