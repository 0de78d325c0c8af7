"""A look at a few pictures of a set before it is used: their size, and what would surprise.

Values of 10 or 12 bits in 16-bit files, which come out nearly black; parts that are transparent,
whose hidden colours are not shown. Imported by `dataset`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.data.augment import pillow
from rsam_ref.data.pictures import IMAGE_SIZE, deep_grey, see_through
from rsam_ref.data.samples import Pictures

LOOKED_AT = 32


def look(pictures: Pictures, names: np.ndarray, bits: int | None) -> list[str]:
    """Notes on some of the pictures, spread evenly over all. What cannot be read is passed over."""
    some = _spread(names)
    deepest, clear = 0, 0
    for name in some:
        try:
            with pillow().open(pictures.open(name)) as image:
                if (deep := deep_grey(image)) is not None:
                    deepest = max(deepest, int(deep.max()))
                elif see_through(image):
                    clear += _has_hidden(image)
        except Exception:  # damaged: told when it is used, or left out before
            continue
    notes = []
    if deepest and bits is None and (used := deepest.bit_length()) < 15:
        guess = max(8, used + used % 2)
        notes.append(
            f"pictures of 16 bits hold no value above {deepest:,} (of {len(some)} looked at), so "
            f"they come out nearly black; if they have {guess} bits, give bits = {guess}"
        )
    if deepest and bits is not None and deepest >= 1 << bits:
        notes.append(f"pictures hold values up to {deepest:,}: more than {bits} bits, cut there")
    if clear:
        notes.append(
            f"{clear} of {len(some)} pictures looked at have parts that are transparent: they are "
            "laid on white, and the colours stored under them are not shown"
        )
    return notes


def size_of(pictures: Pictures, names: np.ndarray) -> tuple[int, list[str]]:
    """The pixels that a set's pictures are brought to if nobody says, and a note that tells it.

    IMAGE_SIZE, or of smaller pictures what is nearest to their short side among the multiples of 8
    (from 64 on of 16), which all models take. The middle one of some decides.
    """
    sides = []
    for name in _spread(names):
        try:
            with pillow().open(pictures.open(name)) as image:
                sides.append(min(image.size))
        except Exception:  # damaged: told when it is used, or left out before
            continue
    if not sides:  # damaged, all of them
        return IMAGE_SIZE, [f"pictures are brought to {IMAGE_SIZE} x {IMAGE_SIZE} pixels"]
    side = int(np.median(sides))
    multiple = 8 if side < 64 else 16
    size = max(8, round(side / multiple) * multiple)
    if side >= IMAGE_SIZE - 8:
        size = IMAGE_SIZE
    return size, [
        f"pictures are brought to {size} x {size} pixels, as the middle one of {len(sides)} has "
        f"{side} on its short side; image_size gives another"
    ]


def _spread(names: np.ndarray) -> np.ndarray:
    """Some of them, spread evenly over all."""
    return names[np.unique(np.linspace(0, len(names) - 1, LOOKED_AT).astype(int))]


def _has_hidden(image: Any) -> bool:
    """Whether some pixels are wholly transparent."""
    return bool(image.convert("RGBA").getextrema()[3][0] == 0)
