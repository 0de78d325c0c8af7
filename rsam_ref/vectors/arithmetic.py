"""Arithmetic whose bits are the same everywhere: IEEE's + - * / and sqrt, sums in index order.

NumPy's element-by-element operations round as IEEE 754 demands. Its sums and products of matrices
do not say in which order they add, and a power may come from the C library; so both are here.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Ordered(np.ndarray[Any, Any]):
    """An array whose sums add in index order. The algorithms' functions run on it unchanged."""

    def __matmul__(self, other: Any) -> Any:
        """Two vectors' inner product: the products, added from the first to the last."""
        return in_order(self * other, 0)

    def __pow__(self, exponent: Any) -> Any:  # type: ignore[override]
        """The square root, which is the only power that the algorithms take of an array."""
        if exponent != 0.5:
            raise ValueError(f"only the power 0.5 rounds alike everywhere, not {exponent}")
        return np.sqrt(self)

    def sum(self, axis: int, keepdims: bool = False) -> Any:  # type: ignore[override]
        """The sum over one axis, in index order."""
        total = in_order(self, axis)
        return np.expand_dims(total, axis) if keepdims else total


def in_order(terms: Any, axis: int) -> Any:
    """The sum over one axis, from the first term to the last: the last of the running sums."""
    running = np.add.accumulate(terms, axis)
    return np.moveaxis(running, axis, 0)[-1, ...]


def ordered(numbers: Any, dtype: str) -> Ordered:
    """Numbers as an array of ``dtype`` that adds in index order."""
    return np.array(numbers, dtype).view(Ordered)


def joined(parts: list[Any]) -> Ordered:
    """Arrays in a row, as one flat vector."""
    return np.concatenate([part.reshape(-1) for part in parts]).view(Ordered)
