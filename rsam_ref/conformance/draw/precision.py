"""In which precision the draw was made: bfloat16 has numbers of 8 bits, float16 of 11."""

from __future__ import annotations

import numpy as np

TYPES = {"bfloat16": 8, "float16": 11}


def low_precision(v: np.ndarray) -> str | None:
    """The type in which all of v (n,) are whole numbers of steps, up to the weights' rounding."""
    v = v[v != 0]
    if np.unique(np.abs(v)).size < 50:
        return None
    mantissa, _ = np.frexp(v)
    for name, bits in TYPES.items():
        scaled = mantissa * 2.0**bits
        off = np.abs(scaled - np.round(scaled))
        if np.mean(off < 0.02) > 0.98:
            return name
    return None
