"""Folders of images, one sub-folder a class, as ImageNet is kept. Pillow decodes them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rsam_ref.data.augment import central_box, pillow, random_box, resized
from rsam_ref.data.errors import DataError, because
from rsam_ref.data.idx import class_names
from rsam_ref.data.samples import Images, Source

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
IMAGE_SIZE = 224  # if none is asked for
# Mean and deviation of ImageNet's red, green and blue: the constants that are used everywhere.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

_THREADS = min(8, os.cpu_count() or 1)
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of 16-bit grey


class FolderSamples(Images):
    """Image files, decoded when they are taken: RGB, normalised by ImageNet's constants.

    Evaluation resizes the short side to size * 256 / 224 and cuts the central square; training
    does too, but for the augmentation "inception". EXIF is ignored, so an image that is to be
    turned by it stays as it is stored. ``files`` (N,) are names below ``folder``.
    """

    def __init__(
        self, folder: Path, files: np.ndarray, labels: np.ndarray, augment: str, size: int
    ) -> None:
        super().__init__(labels, IMAGENET_MEAN, IMAGENET_STD, augment)
        self._folder, self._files, self._size = folder, files, size

    def pixels(self, index: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """Parts of the pictures, without draws their middle, decoded a thread each."""

        def one(i: int) -> np.ndarray:
            image = decode(self._folder / self._files[index[i]])
            width, height = image.size
            if draws is None:
                return resized(image, self._size, central_box(width, height, self._size))
            return resized(image, self._size, random_box(width, height, draws[i]))

        with ThreadPoolExecutor(_THREADS) as pool:
            images = list(pool.map(one, range(len(index))))
        return np.stack(images) if images else np.empty((0, 3, self._size, self._size), np.uint8)


def decode(path: Path) -> Any:
    """A Pillow image in RGB. Grey, palette and CMYK images are converted, transparency dropped.

    DataError for a file that is no image, damaged, cut short, or too large to be an honest image.
    """
    Image = pillow()
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP or (image.mode, image.format) == ("I", "PNG"):
                return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
            if image.mode in ("F", "I"):
                raise DataError(path, f"has pixels of Pillow's mode {image.mode}; save it as 8-bit")
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")  # Pillow warns of the direct way
            return image.convert("RGB")
    except (DataError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(
            path,
            f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels, which no honest image of such a set "
            "has; remove it or make it smaller",
        ) from None
    except Image.UnidentifiedImageError:
        raise DataError(
            path, "is no image that Pillow can read; remove it or get it again"
        ) from None
    except OSError as error:
        if error.errno is None:  # the decoder's own
            raise DataError(
                path, f"is a damaged image ({error}); remove it or get it again"
            ) from None
        raise DataError(path, f"cannot be read: {because(error)}") from None
    except Exception as error:  # decoders meet damaged data with errors of many kinds
        raise DataError(path, f"is a damaged image ({error}); remove it or get it again") from None


def read_folder(folder: Path) -> tuple[Source, dict[str, int]]:
    """The names of the image files below train/ and val/ (or test/), and their sizes in bytes.

    Classes are the sub-folders of train/ in alphabetical order, by their names in classes.tsv where
    it has them. Hidden files and files that are no images by their names are passed over.
    """
    pillow()  # it is missed here rather than in the first batch
    held_out = next((name for name in ("val", "test") if (folder / name).is_dir()), None)
    if held_out is None:
        raise DataError(folder, "has train/ but neither val/ nor test/ beside it")
    keys = [entry.name for entry in _entries(folder / "train") if entry.is_dir()]
    if not keys:
        raise DataError(folder / "train", "has no sub-folders; each class needs one")
    sizes: dict[str, int] = {}
    train = _read_part(folder, "train", keys, sizes)
    test = _read_part(folder, held_out, keys, sizes)
    names = class_names(path) if (path := folder / "classes.tsv").exists() else {}
    return Source(
        folder.resolve().name, tuple(names.get(key, key) for key in keys), train, test
    ), sizes


def _read_part(
    folder: Path, part: str, keys: list[str], sizes: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    labels: list[int] = []
    files: list[str] = []
    for entry in _entries(folder / part):
        if not entry.is_dir():
            continue
        if entry.name not in keys:
            raise DataError(entry.path, "is a class that train/ does not have")
        before = len(files)
        for file in _entries(Path(entry.path)):
            if file.name.lower().endswith(SUFFIXES):
                name = f"{part}/{entry.name}/{file.name}"
                sizes[name] = _size(file)
                files.append(name)
        labels += [keys.index(entry.name)] * (len(files) - before)
        if part == "train" and len(files) == before:
            raise DataError(entry.path, f"has no image; images end in {', '.join(SUFFIXES)}")
    if not files:
        raise DataError(folder / part, "has no image in a sub-folder of a class")
    return np.array(files, object), np.array(labels, np.int64)


def _size(file: os.DirEntry[str]) -> int:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(file.path, f"cannot be read: {because(error)}") from None
    if not file.is_file():
        raise DataError(file.path, "is named like an image but is no file; remove or rename it")
    if size == 0:
        raise DataError(file.path, "is empty; remove it or get it again")
    return size


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden entries."""
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if e.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(folder, f"cannot be read: {because(error)}") from None
