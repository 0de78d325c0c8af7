"""Samples: images and labels, given out a batch at a time as normalised float32 on the host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rsam_backends import Stream
from rsam_ref.data.augment import (
    PAD,
    TRIES,
    mirrored,
    pillow,
    random_box,
    resized,
    shifted,
    unit_draws,
)

EVERY = slice(None)


class Samples(ABC):
    """Samples of a data set, in a fixed order. ``labels`` is (N,) int64, noise included."""

    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def everything(self) -> np.ndarray:
        """The numbers of all samples, in their order."""
        return np.arange(len(self))

    @property
    @abstractmethod
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Each channel's mean and deviation, by which inputs are normalised, in units of pixels."""

    @abstractmethod
    def take(
        self, index: np.ndarray, stream: Stream | None = None, part: slice = EVERY
    ) -> np.ndarray:
        """The samples with these numbers: float32 (n, C, H, W), normalised, on the host.

        With a stream they are augmented with draws from it, without one never. The result depends
        on ``index`` and the stream's key alone if every call is given a new stream. With a ``part``
        only those are made, as they would be among all.
        """


class Pictures(ABC):
    """Where encoded pictures lie, by their names: files of a folder, or bytes in a table."""

    sizes: dict[str, int]
    """The bytes of each picture that is used, by its name."""

    @abstractmethod
    def size(self, name: str) -> int:
        """The bytes of a picture. Raises DamagedImage where there are none."""

    @abstractmethod
    def path(self, name: str) -> Path:
        """What errors call a picture."""

    @abstractmethod
    def open(self, name: str) -> Path | BinaryIO:
        """What Pillow reads it from."""

    def changed(self, name: str) -> bool:
        """Whether a picture is another than when the set was loaded."""
        return False


@dataclass(frozen=True)
class Source:
    """What a reader gives: ``train`` and ``test`` are items and their labels (N,) int64.

    Items are uint8 images (N, C, H, W) or, where there are ``pictures``, their names (N,).
    ``notes`` are told to the user: what was left out or set right.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    pictures: Pictures | None = None
    notes: tuple[str, ...] = ()


def listed(rows: list[tuple[str, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Names of pictures and their labels, as a `Source` has them."""
    names = np.array([name for name, _ in rows], object)
    return names, np.array([label for _, label in rows], np.int64)


class Images(Samples):
    """Samples made of uint8 images; how these are found is left to a subclass.

    ``mean`` and ``std`` (C,) are in units of the uint8 values.
    """

    def __init__(self, labels: np.ndarray, mean: Any, std: Any, augment: str) -> None:
        self.labels = labels
        self._mean = np.asarray(mean, np.float32)[:, None, None]  # (C, 1, 1)
        self._scale = 1 / np.asarray(std, np.float32)[:, None, None]
        self._augment = augment

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """As every `Samples` tells it: mean and standard deviation of each channel."""
        mean, std = self._mean.ravel(), 1 / self._scale.ravel()
        return [float(f"{m:.9g}") for m in mean], [float(f"{s:.9g}") for s in std]

    @abstractmethod
    def pixels(self, index: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """Images as uint8 (n, C, H, W); with draws (n, TRIES + 1, 2), random parts of them."""

    def take(
        self, index: np.ndarray, stream: Stream | None = None, part: slice = EVERY
    ) -> np.ndarray:
        """As every `Samples` does it: float32 (n, C, H, W), normalised, with a stream augmented."""
        n = len(index)
        index = np.asarray(index)[part]
        if stream is None or self._augment == "none":
            return self.views(index, None)
        boxes = self._augment == "inception"
        draws = unit_draws(stream, (n, TRIES + 1, 2))[part] if boxes else None
        x = self.views(index, draws)
        if self._augment == "crop-flip":
            x = shifted(x, *stream.integers(0, 2 * PAD + 1, (2, n))[:, part])
        return mirrored(x, stream.integers(0, 2, n)[part] == 1)

    def views(self, index: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """The `pixels`, normalised: float32 (n, C, H, W), a new array."""
        return self._normalised(self.pixels(index, draws))

    def _normalised(self, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        x = np.subtract(pixels, self._mean, out=out, dtype=np.float32)
        return np.multiply(x, self._scale, out=x)


class ArraySamples(Images):
    """Samples in memory: uint8 images (N, C, H, W), resized to ``size`` x ``size`` if it is given.

    Evaluation sees the whole image, stretched if it is not square: arrays are taken as cropped.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        mean: np.ndarray,
        std: np.ndarray,
        augment: str = "none",
        size: int | None = None,
    ) -> None:
        super().__init__(labels, mean, std, augment)
        self._images = images
        self._size = None if images.shape[2:] == (size, size) else size
        if self._size is not None or augment == "inception":
            pillow()  # it is missed here rather than in the first batch

    def pixels(self, index: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """Parts of the arrays, or the arrays as they are, brought to the size."""
        images = self._images[index]
        n, c, h, w = images.shape
        if draws is None and self._size is None:
            return images
        size = self._size or h
        out = np.empty((n, c, size, size), np.uint8)
        for i, image in enumerate(images.transpose(0, 2, 3, 1)):  # (H, W, C)
            box = None if draws is None else random_box(w, h, draws[i])
            whole = pillow().fromarray(np.ascontiguousarray(image[..., 0] if c == 1 else image))
            out[i] = resized(whole, size, box)
        return out


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) of each channel of uint8 images (N, C, H, W), float64.

    They come from exact counts of the 256 values. A constant channel is given deviation 1.
    """
    counts = np.zeros((images.shape[1], 256))
    for start in range(0, len(images), 1000):
        for channel, values in enumerate(images[start : start + 1000].swapaxes(0, 1)):
            counts[channel] += np.bincount(values.ravel(), minlength=256)
    share, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    return mean, np.where(std > 0, std, 1.0)
