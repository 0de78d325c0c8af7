"""Arrays cut into blocks that stay in a core's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rsam_backends.base import Array
from rsam_backends.threads import share_out

PANEL = 1 << 20
"""Bytes of rows of windows that a convolution makes and uses at a time."""

PIECE = 256 << 10
"""Bytes of an array that the elementwise kernels work on at a time."""

SMALL = 1 << 15
"""Numbers in an array below which a definition is as fast as a kernel."""


def blocks(n: int, size: int, target: int) -> list[slice]:
    """n things of ``size`` bytes each, in slices of about ``target`` bytes."""
    step = max(1, target // max(1, size))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def pieces(rows: Array) -> list[slice]:
    """The first axis of an array in slices of about `PIECE` bytes."""
    return blocks(len(rows), rows.nbytes // len(rows), PIECE)


def large(*arrays: Array) -> bool:
    """Whether these are float arrays of one type, worth a kernel."""
    return arrays[0].size >= SMALL and all(
        a.dtype == arrays[0].dtype and a.dtype.kind == "f" for a in arrays
    )


class Flat:
    """Arrays of one shape as runs of numbers, all in the order in which ``x`` lies in memory."""

    def __init__(self, x: Array) -> None:
        self.order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
        self.shape = [x.shape[i] for i in self.order]
        self.back = [self.order.index(i) for i in range(x.ndim)]
        self.pieces = blocks(x.size, x.itemsize, PIECE)

    def run(self, x: Array) -> Array:
        """``x`` as (x.size,): a view, or a copy where it lies in another order."""
        return x.transpose(self.order).reshape(-1)

    def array(self, run: Array) -> Array:
        """(x.size,) as an array of x's shape."""
        return run.reshape(self.shape).transpose(self.back)


def column_sums(make: Callable[[slice], Sequence[Array]], parts: list[slice]) -> list[Array]:
    """For each array that ``make(part)`` gives, the sum over all of its rows.

    As products with ones, NumPy's fastest way; and in the order of the parts, so that the number of
    threads changes no bit.
    """
    sums: list[list[np.ndarray]] = [[] for _ in parts]

    def work(i: int) -> None:
        sums[i] = [np.ones(len(rows), rows.dtype) @ rows for rows in make(parts[i])]

    share_out(work, range(len(parts)))
    return [np.sum(column, axis=0) for column in zip(*sums)]
