"""A look at a few pictures of a set before it is used: what about them would surprise.

Values of 10 or 12 bits in 16-bit files, which come out nearly black; parts that are transparent,
whose hidden colours are not shown. Imported by `dataset`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.data.augment import pillow
from rsam_ref.data.pictures import deep_grey, see_through
from rsam_ref.data.samples import Pictures

LOOKED_AT = 32


def look(pictures: Pictures, names: np.ndarray, bits: int | None) -> list[str]:
    """Notes on some of the pictures, spread evenly over all. What cannot be read is passed over."""
    some = names[np.unique(np.linspace(0, len(names) - 1, LOOKED_AT).astype(int))]
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


def _has_hidden(image: Any) -> bool:
    """Whether some pixels are wholly transparent."""
    return bool(image.convert("RGBA").getextrema()[3][0] == 0)
