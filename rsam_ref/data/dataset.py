"""Data sets by name or folder: what `load_dataset` gives."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rsam_backends import Stream
from rsam_ref.data.augment import AUGMENTATIONS
from rsam_ref.data.digits import digits, with_noise
from rsam_ref.data.errors import DamagedImage, DataError
from rsam_ref.data.look import look, size_of
from rsam_ref.data.pictures import PictureSamples
from rsam_ref.data.recognise import read_source
from rsam_ref.data.samples import ArraySamples, Samples, Source, channel_statistics

__all__ = ["Dataset", "Samples", "load_dataset"]


@dataclass(frozen=True)
class Dataset:
    """Training and test samples of ``shape`` (C, H, W), with labels that number ``classes``.

    ``fingerprint`` changes with the samples, their order and their labels: noise, split and limit
    included. Of encoded pictures it sees their names and sizes. ``notes`` say in a line each what
    of the data was left out or set right, how much and why. ``validation`` are training samples
    that are held out, where that was asked for.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: Samples
    test: Samples
    fingerprint: str
    notes: tuple[str, ...] = ()
    validation: Samples | None = None

    @property
    def watched(self) -> Samples:
        """What training is watched on: the samples held out where there are some, or the tests."""
        return self.test if self.validation is None else self.validation


def load_dataset(
    where: str | Path = "digits",
    *,
    image_size: int | None = None,
    augment: str = "none",
    label_noise: float = 0.0,
    seed: int = 0,
    limit: int | None = None,
    validation: float = 0.0,
    bits: int | None = None,
    skip: Collection[str] = (),
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Dataset:
    """The data set in a folder, or the embedded digits.

    The string "digits" means the embedded ones (1, 8, 8): three quarters to train on and a quarter
    to test, the quarter that `digits_split` tests with at the same seed. A folder of that name is
    "./digits" or a Path. A folder holds IDX files (MNIST and its kin), CIFAR-10 or CIFAR-100,
    arrays in .npz or .npy files, encoded pictures in parquet files, or images as
    ``train/CLASS/*.jpg`` with val/ or test/; the documentation's page on data tells of each.

    Inputs are normalised by each channel's mean and standard deviation over the training samples;
    encoded pictures by ImageNet's. Raises ValueError for settings and DataError for data that make
    no sense, with one line that says what to do.

    Parameters
    ----------
    image_size:
        Images become squares of so many pixels. If not given: as stored for arrays; of encoded
        pictures about as many as these have on their short side, at most 224.
    augment:
        Of training samples. "flip": half of them swapped left for right. "crop-flip": shifted by up
        to 4 pixels, the border filled with the mean pixel, and flipped (He et al., CVPR 2016).
        "inception": a random part, resized, and flipped (Szegedy et al., CVPR 2015).
    label_noise:
        The share of training labels replaced by a class drawn at random (it may be the right one);
        test labels stay clean.
    seed:
        Of the split of the digits, of the label noise and of the choices that ``limit`` and
        ``validation`` make.
    limit:
        Train on so many samples, drawn at random.
    validation:
        The share of the training samples in use that are held out, drawn at random, to choose
        settings by. They keep their own labels, and no statistic is taken of them.
    bits:
        Pictures of 16-bit grey hold values of so many bits, such as 12, and are scaled by that.
    skip:
        Names of encoded pictures to leave out, as `find_damaged` gives them.
    statistics:
        Mean and deviation of each channel to normalise by, such as those of another set that a
        model was trained on; not of encoded pictures, which have ImageNet's.
    """
    if augment not in AUGMENTATIONS:
        raise ValueError(f"augmentation is one of {', '.join(AUGMENTATIONS)}, not {augment!r}")
    if not 0 <= label_noise <= 1:
        raise ValueError(f"label noise is a share and lies in [0, 1], not {label_noise}")
    for name, value in (("the image size", image_size), ("the limit", limit)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if not 0 <= validation < 1:
        raise ValueError(f"validation is a share in [0, 1), not {validation}")
    if bits is not None and not 8 <= bits <= 16:
        raise ValueError(f"bits of a value are 8 to 16, not {bits}")

    embedded = isinstance(where, str) and where == "digits"
    source = _digits(seed) if embedded else _read(Path(where), skip)
    notes = [*source.notes, *_classes_without(source)]
    if len(source.train[1]) == 0 or len(source.test[1]) == 0:
        raise DataError(where, "has no sample left to train on, or none to test on")

    items, labels = source.train
    held = None
    if validation:
        kept, apart = _held_out(where, len(labels), validation, limit, seed)
        held = items[apart], labels[apart]
        items, labels = items[kept], labels[kept]
    elif limit is not None:
        kept = Stream("limit", seed).permutation(len(labels))[:limit]
        items, labels = items[kept], labels[kept]
    labels = with_noise(labels, label_noise, len(source.classes), Stream("label noise", seed))
    source = replace(source, train=(items, labels))
    train: Samples
    test: Samples
    watched: Samples | None = None
    if (pictures := source.pictures) is not None:
        size = image_size
        if size is None:
            size, told = size_of(pictures, source.train[0])
            notes += told
        notes += look(pictures, items, bits)
        train = PictureSamples(pictures, *source.train, augment, size, bits or 16)
        test = PictureSamples(pictures, *source.test, "none", size, bits or 16)
        if held is not None:
            watched = PictureSamples(pictures, *held, "none", size, bits or 16)
        shape = (3, size, size)
    else:
        mean, std = map(np.asarray, statistics or channel_statistics(items))
        train = ArraySamples(*source.train, mean, std, augment, image_size)
        test = ArraySamples(*source.test, mean, std, "none", image_size)
        if held is not None:
            watched = ArraySamples(*held, mean, std, "none", image_size)
        c, h, w = items.shape[1:]
        shape = (c, image_size or h, image_size or w)
    print_ = _fingerprint(source, held)
    return Dataset(source.name, source.classes, shape, train, test, print_, tuple(notes), watched)


def _held_out(
    where: str | Path, n: int, share: float, limit: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the samples that are trained on, at most ``limit``, and of those held out.

    With a limit fewer are held out: ``share`` is that of the samples in use. Without one they are
    the same samples whatever else is asked for.
    """
    order = Stream("validation", seed).permutation(n)
    apart = math.ceil(share * n)
    kept = min(n - apart, limit or n)
    if kept < 1:
        raise DataError(where, f"has {n} samples to train on: validation {share:g} leaves none")
    if kept == limit:
        apart = min(apart, math.ceil(share / (1 - share) * kept))
    return order[n - kept :], order[:apart]


def _read(where: Path, skip: Collection[str]) -> Source:
    """As `read_source`; of a damaged picture it is said how to go on without it."""
    try:
        return read_source(where, skip)
    except DamagedImage as damage:
        raise DamagedImage(
            damage.path,
            damage.what,
            f"{damage.remedy}, or leave out what is damaged: --skip-damaged "
            "(skip=find_damaged(...))",
        ) from None


def _digits(seed: int) -> Source:
    images, labels = digits()
    order = Stream("split", seed).permutation(len(labels))
    train, test = np.split(order, [len(order) * 3 // 4])
    x = images[:, None]  # (N, 8, 8) -> (N, 1, 8, 8)
    names = tuple(map(str, range(10)))
    return Source("digits", names, (x[train], labels[train]), (x[test], labels[test]))


def _classes_without(source: Source) -> list[str]:
    """Notes on classes that have no sample to train on, or none to test on."""
    notes = []
    for part, to in ((source.train, "train"), (source.test, "test")):
        there = set(part[1].tolist())
        without = [name for i, name in enumerate(source.classes) if i not in there]
        if without:
            more = ", ..." if len(without) > 3 else ""
            notes.append(
                f"{len(without)} of {len(source.classes)} classes without a sample to {to} on: "
                f"{', '.join(without[:3])}{more}"
            )
    return notes


def _fingerprint(source: Source, held: tuple[np.ndarray, np.ndarray] | None) -> str:
    """SHA-256, its first 16 hex digits, of all items and labels in their order."""
    digest = hashlib.sha256(repr(source.classes).encode())
    for items, labels in (source.train, source.test, *([] if held is None else [held])):
        if source.pictures is None:
            digest.update(repr(items.shape).encode())
            digest.update(np.ascontiguousarray(items).data)
        else:
            sizes = source.pictures.sizes
            digest.update(repr([(name, sizes[name]) for name in items]).encode())
        digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
