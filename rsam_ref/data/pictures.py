"""Pictures in files: what is one, how it becomes RGB, and samples that are decoded when taken.

Pillow decodes them, by their contents and not by their names. Imported by the readers of folders
and tables of pictures, and by `dataset`.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rsam_ref.data.augment import central_box, pillow, random_box, resized
from rsam_ref.data.errors import DamagedImage, DataError, because, is_pointer
from rsam_ref.data.samples import Images, Pictures

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
"""Files called so are taken for pictures unopened; others are looked into."""

IMAGE_SIZE = 224  # the largest if none is asked for
# Mean and deviation of ImageNet's red, green and blue: the constants that are used everywhere.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

THREADS = min(8, os.cpu_count() or 1)
_NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""What Pillow knows by its first bytes but does not decode itself."""
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of 16-bit grey
_DEEP_AS_32 = ("PNG", "PPM")  # formats whose 16-bit grey Pillow may give as 32-bit
_SEE_THROUGH = ("RGBA", "LA", "PA", "La", "RGBa")


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that Pillow decodes itself, the common ones first."""
    image = pillow()
    image.preinit()
    image.init()
    return tuple(name for name in image.OPEN if name not in _NO_PICTURES)


@functools.cache
def _formats_of(suffix: str) -> tuple[str, ...]:
    """What a file called so may be: what is told by its first bytes, and the format of its name.

    The other formats have no first bytes to be told by, and would take many a file for theirs.
    """
    known = pillow().OPEN
    own = pillow().registered_extensions().get(suffix)
    return tuple(name for name in _formats() if known[name][1] is not None or name == own)


def is_picture(path: Path) -> bool:
    """Whether a file is a picture: by a common suffix, else by its contents."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    try:
        with pillow().open(path, formats=_formats_of(suffix)):
            return True
    except Exception:  # whatever a file of any kind makes a decoder say
        return False


def decode(path: Path, source: Path | BinaryIO | None = None, bits: int = 16) -> Any:
    """A Pillow image in RGB. Grey, palette and CMYK images are converted.

    What is transparent is laid on white, as a viewer shows it. Of 16-bit grey the upper 8 bits are
    taken; ``bits`` says that the values have fewer, such as 12 of a microscope's.

    ``source`` is where the bytes are, if not in the file ``path``. Raises DamagedImage for what is
    no image, damaged, cut short, or too large to be an honest one.
    """
    Image = pillow()
    try:
        with Image.open(source or path, formats=_formats()) as image:
            if (deep := deep_grey(image)) is not None:
                return Image.fromarray(
                    np.minimum(deep >> (bits - 8), 255).astype(np.uint8)
                ).convert("RGB")
            if image.mode in ("F", "I"):
                raise DamagedImage(
                    path, f"has pixels of Pillow's mode {image.mode}", "save it as 8-bit"
                )
            if see_through(image):
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                return Image.alpha_composite(white, image).convert("RGB")
            return image.convert("RGB")
    except (DataError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DamagedImage(
            path,
            f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels, which no honest image of such a set "
            "has",
            "remove it or make it smaller",
        ) from None
    except Image.UnidentifiedImageError:
        if is_pointer(path):
            raise DamagedImage(
                path, "is a pointer of Git LFS, not the picture itself", "get it: git lfs pull"
            ) from None
        raise DamagedImage(path, "is no image that Pillow can read") from None
    except OSError as error:
        if error.errno is None:  # the decoder's own
            raise DamagedImage(path, f"is a damaged image ({error})") from None
        raise DamagedImage(path, f"cannot be read: {because(error)}", "mend that") from None
    except Exception as error:  # decoders meet damaged data with errors of many kinds
        raise DamagedImage(path, f"is a damaged image ({error})") from None


def deep_grey(image: Any) -> np.ndarray | None:
    """The values (H, W) of an opened image in 16-bit grey; None for any other."""
    if image.mode in _DEEP or (image.mode == "I" and image.format in _DEEP_AS_32):
        return np.asarray(image)
    return None


def see_through(image: Any) -> bool:
    """Whether an opened image has an alpha channel, or a colour that is transparent."""
    return image.mode in _SEE_THROUGH or "transparency" in image.info


class PictureSamples(Images):
    """Encoded pictures, decoded when they are taken: RGB, normalised by ImageNet's constants.

    Evaluation takes a picture of the size as it is; of others it resizes the short side to
    size * 256 / 224 and cuts the central square. Training does too, but for the augmentation
    "inception". EXIF is ignored, so an image that is to be
    turned by it stays as it is stored. ``names`` (N,) are those of ``pictures``.
    """

    def __init__(
        self,
        pictures: Pictures,
        names: np.ndarray,
        labels: np.ndarray,
        augment: str,
        size: int,
        bits: int = 16,
    ) -> None:
        super().__init__(labels, IMAGENET_MEAN, IMAGENET_STD, augment)
        self.names = names
        self._pictures, self._size, self._bits = pictures, size, bits

    def pixels(self, index: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """Parts of the pictures, without draws their middle, as uint8 (n, 3, size, size)."""
        out = np.empty((len(index), 3, self._size, self._size), np.uint8)
        self._each(index, draws, lambda i, pixels: np.copyto(out[i], pixels))
        return out

    def views(self, index: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """As for all `Images`; each thread normalises the pictures that it decodes."""
        out = np.empty((len(index), 3, self._size, self._size), np.float32)
        self._each(index, draws, lambda i, pixels: self._normalised(pixels, out[i]))
        return out

    def _each(self, index: np.ndarray, draws: np.ndarray | None, use: Any) -> None:
        """Decode the pictures on all threads, and call ``use`` with each one's place and pixels."""

        def one(i: int) -> None:
            name = self.names[index[i]]
            try:
                image = decode(self._pictures.path(name), self._pictures.open(name), self._bits)
            except DamagedImage as damage:
                damage.changed = self._pictures.changed(name)
                raise
            width, height = image.size
            if draws is None:
                box = central_box(width, height, self._size)
            else:
                box = random_box(width, height, draws[i])
            use(i, resized(image, self._size, box))

        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(one, range(len(index))):
                pass
