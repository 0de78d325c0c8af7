"""What a trained model takes in, and pictures and arrays of one's own brought to that form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsam_ref.data.arrays import SUFFIXES as ARRAYS
from rsam_ref.data.arrays import from_fractions
from rsam_ref.data.augment import pillow
from rsam_ref.data.dataset import Dataset
from rsam_ref.data.errors import DataError, because
from rsam_ref.data.folder import Files
from rsam_ref.data.pictures import PictureSamples, decode, is_picture
from rsam_ref.data.recognise import holds_a_set
from rsam_ref.data.samples import ArraySamples, Samples, listed


@dataclass(frozen=True)
class Inputs:
    """The form of a model's inputs, as a run keeps it in its run.json.

    ``shape`` is (C, H, W); ``mean`` and ``std`` are those of the channels, in units of pixels, and
    ``white`` is the value of a pixel that is full on (255, or 16 of the embedded digits). Of a
    model that was trained on pictures in files, these are ``encoded``, and ``bits`` is as in
    `load_dataset`.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: int = 255
    encoded: bool = False
    bits: int = 16

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, data: Dataset, *, white: int = 255, bits: int | None = None) -> Inputs:
        """The inputs of a model that is trained on these data."""
        mean, std = data.train.normalisation
        encoded = isinstance(data.train, PictureSamples)
        return cls(data.classes, data.shape, tuple(mean), tuple(std), white, encoded, bits or 16)

    @classmethod
    def of_plain(cls, told: dict[str, Any]) -> Inputs:
        """What `plain` gave, after JSON. Raises KeyError or TypeError for anything else."""
        lists = {name: tuple(told[name]) for name in ("classes", "shape", "mean", "std")}
        return cls(**{**told, **lists})

    def samples(self, path: str | Path) -> Samples:
        """The picture, or the pictures of an array, in a file. Their labels are 0.

        A .npy file, or the first array of an .npz file, holds pictures (N, C, H, W), (N, H, W, C),
        (N, H, W), or one of them, with pixels as the training data hold them; of data other than
        the embedded digits fractions from 0 to 1 will do as well. Raises DataError for what is
        neither, or of another shape.
        """
        path = Path(path)
        if path.suffix.lower() in ARRAYS:
            return self._in_memory(self._shaped(path, _array(path)))
        if not path.exists():
            raise DataError(path, "no such file")
        if not is_picture(path):
            raise DataError(path, "is no picture, and no array in .npy or .npz")
        if self.encoded:
            names = np.array([path.name], object)
            files, size = Files(path.parent), self.shape[1]
            files.sizes[path.name] = files.size(path.name)
            return PictureSamples(files, names, np.zeros(1, np.int64), "none", size, self.bits)
        return self._in_memory(self._as_stored(path))

    def labelled(self, folder: str | Path) -> Samples | None:
        """The pictures of a folder whose sub-folders are named like classes; None for others.

        Raises DataError for sub-folders with pictures, some named otherwise, that are no data set.
        """
        folder = Path(folder)
        below = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
        others = [path.name for path in below if path.name not in self.classes]
        if others and not holds_a_set(folder) and all(map(_holds_picture, below)):
            raise DataError(
                folder,
                f"has folders that are no class of the model: {', '.join(others[:4])}; its classes "
                f"are {', '.join(self.classes[:10])}{', ...' if len(self.classes) > 10 else ''}",
            )
        if not below or others:
            return None
        found = [
            (file, self.classes.index(path.name))
            for path in below
            for file in sorted(path.rglob("*"))
            if file.is_file() and is_picture(file)
        ]
        if not found:
            raise DataError(folder, "has folders of classes, and no picture in them")
        if not self.encoded:
            images = np.concatenate([self._as_stored(file) for file, _ in found])
            return self._in_memory(images, np.array([label for _, label in found], np.int64))
        names, labels = listed([(str(file.relative_to(folder)), label) for file, label in found])
        files = Files(folder)
        files.sizes |= {name: files.size(name) for name in names}
        return PictureSamples(files, names, labels, "none", self.shape[1], self.bits)

    def _in_memory(self, images: np.ndarray, labels: np.ndarray | None = None) -> Samples:
        labels = np.zeros(len(images), np.int64) if labels is None else labels
        return ArraySamples(images, labels, np.asarray(self.mean), np.asarray(self.std))

    def _as_stored(self, path: Path) -> np.ndarray:
        """A picture in a file, as the arrays hold theirs: uint8 (1, C, H, W)."""
        channels, height, width = self.shape
        picture = decode(path, bits=self.bits).convert("L" if channels == 1 else "RGB")
        pixels = np.asarray(picture.resize((width, height), pillow().Resampling.BILINEAR))
        whole = np.round(pixels.astype(np.float64) * (self.white / 255)).astype(np.uint8)
        return whole[None, None] if channels == 1 else whole.transpose(2, 0, 1)[None]

    def _shaped(self, path: Path, array: np.ndarray) -> np.ndarray:
        """An array as uint8 (N, C, H, W)."""
        channels, height, width = self.shape
        one, last = (channels, height, width), (height, width, channels)
        if channels == 1 and array.shape[-2:] == (height, width) and array.ndim in (2, 3):
            array = array.reshape(-1, 1, height, width)
        elif array.shape[-3:] == one and array.ndim in (3, 4):
            array = array.reshape(-1, *one)
        elif array.shape[-3:] == last and array.ndim in (3, 4):
            array = array.reshape(-1, *last).transpose(0, 3, 1, 2)
        else:
            raise DataError(
                path,
                f"holds an array of shape {array.shape}; the model takes pictures of shape "
                f"(N, {channels}, {height}, {width}) or (N, {height}, {width}, {channels})",
            )
        if self.white == 255 and (filled := from_fractions(array)) is not None:
            return filled
        if array.dtype != np.uint8:
            whole = np.round(array)
            fractions = ", or fractions from 0 to 1" if self.white == 255 else ""
            if not (whole == array).all() or not ((array >= 0) & (array <= 255)).all():
                raise DataError(
                    path,
                    f"holds {array.dtype} values that are no whole numbers of 0 to 255; give "
                    f"pixels from 0 to {self.white}{fractions}",
                )
            array = whole.astype(np.uint8)
        return array


def _holds_picture(folder: Path) -> bool:
    return any(file.is_file() and is_picture(file) for file in folder.iterdir())


def _array(path: Path) -> np.ndarray:
    try:
        with open(path, "rb") as file:  # np.load leaves its own open where a file is damaged
            loaded = np.load(file, allow_pickle=False)
            array = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except OSError as error:
        raise DataError(path, f"cannot be read: {because(error)}") from None
    except Exception as error:  # NumPy meets damaged files with errors of many kinds
        raise DataError(path, f"is no file of arrays, or damaged ({error})") from None
    if array.dtype.kind not in "uifb":
        raise DataError(path, f"holds {array.dtype}, and no numbers")
    return array


def files_in(paths: Iterable[str | Path]) -> Iterator[Path]:
    """The files themselves, and for a folder the pictures and arrays anywhere below it, by name.

    Raises DataError for a folder that holds none.
    """
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        below = sorted(file for file in path.rglob("*") if file.is_file())
        found = [f for f in below if f.suffix.lower() in ARRAYS or is_picture(f)]
        if not found:
            raise DataError(path, "holds no picture, and no array in .npy or .npz")
        yield from found
