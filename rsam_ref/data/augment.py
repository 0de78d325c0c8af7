"""Augmentation: random views of training images, as functions of images and of given draws.

Draws come from whole numbers of a `Stream`, which stay on the host whichever backend is in force.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np

from rsam_backends import Stream
from rsam_ref.data.errors import DataError

AUGMENTATIONS = ("none", "flip", "crop-flip", "inception")
PAD = 4
TRIES = 10  # boxes drawn before the whole image is taken
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)

Box = tuple[float, float, float, float]


def unit_draws(stream: Stream, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform draws from [0, 1) in float64, on the host."""
    return stream.integers(0, 2**32, shape) / 2**32


def shifted(x: np.ndarray, tops: np.ndarray, lefts: np.ndarray, pad: int = PAD) -> np.ndarray:
    """Images x (N, C, H, W), padded by ``pad`` zeros on every side, cut back to H x W.

    The cut of image i begins at row ``tops[i]`` and column ``lefts[i]`` of the padded image, each
    from 0 .. 2 pad. In a normalised image zero is the mean pixel.
    """
    n, c, h, w = x.shape
    padded = np.zeros((n, c, h + 2 * pad, w + 2 * pad), x.dtype)
    padded[:, :, pad : pad + h, pad : pad + w] = x
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
    return windows[np.arange(n), :, tops, lefts]  # (N, C, 2 pad + 1, 2 pad + 1, H, W) -> x.shape


def mirrored(x: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Images x (N, C, H, W), those with ``flips`` (N,) true swapped left for right."""
    return np.where(flips[:, None, None, None], x[..., ::-1], x)


def random_box(width: int, height: int, draws: np.ndarray) -> Box:
    """A random part (left, top, right, bottom) of an image, in pixels, from draws (TRIES + 1, 2).

    Its area is uniform in 8 .. 100 % of the image's, the logarithm of its aspect (width / height)
    uniform between 3/4 and 4/3, its place uniform. If none of the tries fits into the image, it is
    the largest central part of an allowed aspect. Source: Szegedy et al., "Going deeper with
    convolutions", CVPR 2015, section 6, with the aspect range given there.
    """
    *tries, (across, down) = draws.tolist()
    for area, aspect in tries:
        pixels = width * height * (AREA[0] + area * (AREA[1] - AREA[0]))
        ratio = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** aspect
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(across * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * ASPECT[1])))
    h = max(1, min(height, round(width / ASPECT[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def central_box(width: int, height: int, size: int) -> Box:
    """The part of an image that evaluation looks at, in pixels of the image.

    All of a picture whose sides are both ``size``. Of others, what is left when the short side is
    resized to size * 256 / 224 (rounded) and a square of ``size`` is cut from the centre. Cutting
    first gives the same picture for less work.
    """
    if width == height == size:
        return 0, 0, size, size
    scale = round(size * 256 / 224) / min(width, height)
    wide, high = round(width * scale), round(height * scale)
    left, top = (wide - size) // 2, (high - size) // 2
    x, y = width / wide, height / high
    return left * x, top * y, (left + size) * x, (top + size) * y


@functools.cache
def pillow() -> Any:
    """Pillow's Image module. Its warning about images too large to be honest is made an error."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            "Pillow", 'is missing, and images need it: pip install "rsam-ref[images]"'
        ) from None
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    return Image


def resized(image: Any, size: int, box: Box | None = None) -> np.ndarray:
    """A part of a Pillow image (all of it without a box) as uint8 (C, size, size); bilinear."""
    pixels = np.asarray(image.resize((size, size), pillow().Resampling.BILINEAR, box=box))
    return pixels.reshape(size, size, -1).transpose(2, 0, 1)  # (S, S, C) or (S, S) -> (C, S, S)
