"""Data sets by name or folder: what `load_dataset` gives, and how it tells what a folder holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rsam_backends import Stream
from rsam_ref.data.augment import AUGMENTATIONS
from rsam_ref.data.cifar import CIFAR10_BATCH, read_cifar10, read_cifar100
from rsam_ref.data.digits import digits
from rsam_ref.data.errors import DataError, because
from rsam_ref.data.folder import IMAGE_SIZE, FolderSamples, read_folder
from rsam_ref.data.idx import IDX_NAMES, read_idx_folder
from rsam_ref.data.samples import ArraySamples, Samples, Source, channel_statistics

__all__ = ["Dataset", "Samples", "load_dataset"]


@dataclass(frozen=True)
class Dataset:
    """Training and test samples of ``shape`` (C, H, W), with labels that number ``classes``.

    ``fingerprint`` changes with the samples, their order and their labels: noise, split and limit
    included. Of an image folder it sees the files' names and sizes.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: Samples
    test: Samples
    fingerprint: str


def load_dataset(
    where: str | Path = "digits",
    *,
    image_size: int | None = None,
    augment: str = "none",
    label_noise: float = 0.0,
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """The data set in a folder, or the embedded digits.

    The string "digits" means the embedded ones (1, 8, 8): three quarters to train on and a quarter
    to test, the quarter that `digits_split` tests with at the same seed. A folder of that name is
    "./digits" or a Path. A folder holds IDX files (MNIST, Fashion-MNIST), CIFAR-10 or CIFAR-100 in
    binary, or images as ``train/CLASS/*.jpg`` with val/ or test/.

    Inputs are normalised by each channel's mean and standard deviation over the training samples;
    image folders by ImageNet's. Raises ValueError for settings and DataError for data that make no
    sense, with one line that says what to do.

    Parameters
    ----------
    image_size:
        Images become squares of so many pixels; 224 for image folders if not given, as stored for
        the others.
    augment:
        Of training samples. "flip": half of them swapped left for right. "crop-flip": shifted by up
        to 4 pixels, the border filled with the mean pixel, and flipped (He et al., CVPR 2016).
        "inception": a random part, resized, and flipped (Szegedy et al., CVPR 2015).
    label_noise:
        The share of training labels replaced by a class drawn at random (it may be the right one);
        test labels stay clean.
    seed:
        Of the split of the digits, of the label noise and of the choice that ``limit`` makes.
    limit:
        Train on so many samples, drawn at random.
    """
    if augment not in AUGMENTATIONS:
        raise ValueError(f"augmentation is one of {', '.join(AUGMENTATIONS)}, not {augment!r}")
    if not 0 <= label_noise <= 1:
        raise ValueError(f"label noise is a share and lies in [0, 1], not {label_noise}")
    for name, value in (("the image size", image_size), ("the limit", limit)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")

    sizes: dict[str, int] | None = None
    folder = Path(where)
    if isinstance(where, str) and where == "digits":
        source = _digits(seed)
    else:
        kind, folder = recognise(folder)
        if kind == "images":
            source, sizes = read_folder(folder)
        else:
            source = _READERS[kind](folder)

    items, labels = source.train
    if limit is not None:
        kept = Stream("limit", seed).permutation(len(labels))[:limit]
        items, labels = items[kept], labels[kept]
    source = replace(source, train=(items, _noisy(labels, label_noise, len(source.classes), seed)))
    train: Samples
    test: Samples
    if sizes is not None:
        size = image_size or IMAGE_SIZE
        train = FolderSamples(folder, *source.train, augment, size)
        test = FolderSamples(folder, *source.test, "none", size)
        shape = (3, size, size)
    else:
        statistics = channel_statistics(items)
        train = ArraySamples(*source.train, *statistics, augment, image_size)
        test = ArraySamples(*source.test, *statistics, "none", image_size)
        c, h, w = items.shape[1:]
        shape = (c, image_size or h, image_size or w)
    return Dataset(source.name, source.classes, shape, train, test, _fingerprint(source, sizes))


def _digits(seed: int) -> Source:
    images, labels = digits()
    order = Stream("split", seed).permutation(len(labels))
    train, test = np.split(order, [len(order) * 3 // 4])
    x = images[:, None]  # (N, 8, 8) -> (N, 1, 8, 8)
    names = tuple(map(str, range(10)))
    return Source("digits", names, (x[train], labels[train]), (x[test], labels[test]))


def _noisy(labels: np.ndarray, share: float, classes: int, seed: int) -> np.ndarray:
    stream = Stream("label noise", seed)
    wrong = stream.permutation(len(labels))[: round(share * len(labels))]
    labels = labels.copy()
    labels[wrong] = stream.integers(0, classes, len(wrong))
    return labels


def _fingerprint(source: Source, sizes: dict[str, int] | None) -> str:
    """SHA-256, its first 16 hex digits, of all items and labels in their order."""
    digest = hashlib.sha256(repr(source.classes).encode())
    for items, labels in (source.train, source.test):
        if sizes is None:
            digest.update(repr(items.shape).encode())
            digest.update(np.ascontiguousarray(items).data)
        else:
            digest.update(repr([(name, sizes[name]) for name in items]).encode())
        digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


_READERS: dict[str, Callable[[Path], Source]] = {
    "idx": read_idx_folder,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
}
_LOOKED_FOR = (
    "IDX files (train-images-idx3-ubyte[.gz] ...), CIFAR-10 or CIFAR-100 in binary "
    "(data_batch_1.bin ..., or train.bin and test.bin), or images in train/CLASS/ and val/CLASS/"
)
_PICKLES = {
    "data_batch_1": "cifar-10",
    "test_batch": "cifar-10",
    "cifar-10-batches-py": "cifar-10",
    "cifar-10-python.tar.gz": "cifar-10",
    "cifar-100-python": "cifar-100",
    "cifar-100-python.tar.gz": "cifar-100",
}
_ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-100-binary.tar.gz")


def recognise(folder: Path) -> tuple[str, Path]:
    """What a folder holds ("idx", "cifar10", "cifar100" or "images"), and the folder it lies in.

    That is the folder itself, or for CIFAR the sub-folder that the official archive makes.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        raise DataError(folder, 'no such folder; "digits" is the set that needs none') from None
    except NotADirectoryError:
        raise DataError(folder, "is a file; unpack it and give the folder") from None
    except OSError as error:
        raise DataError(folder, f"cannot be read: {because(error)}") from None
    found: dict[str, Path] = {}
    if any(name in names or f"{name}.gz" in names for name in IDX_NAMES):
        found["idx"] = folder
    if "test_batch.bin" in names or any(map(CIFAR10_BATCH.fullmatch, names)):
        found["cifar10"] = folder
    if {"train.bin", "test.bin"} & names:
        found["cifar100"] = folder
    if (folder / "train").is_dir():
        found["images"] = folder
    for kind, name in (("cifar10", "cifar-10-batches-bin"), ("cifar100", "cifar-100-binary")):
        if name in names and kind not in found:
            found[kind] = folder / name
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        raise DataError(
            folder, f"holds more than one set ({', '.join(found)}); give each a folder of its own"
        )
    if pickles := sorted(names & set(_PICKLES)):
        raise DataError(
            folder / pickles[0],
            "is CIFAR as Python pickles, which can run any code when they are read; get the "
            f"binary version, {_PICKLES[pickles[0]]}-binary.tar.gz",
        )
    if archives := [name for name in _ARCHIVES if name in names]:
        raise DataError(folder / archives[0], "is still packed; unpack it here")
    state = "is empty" if not names else "holds no data set"
    raise DataError(folder, f"{state}; looked for {_LOOKED_FOR}")
