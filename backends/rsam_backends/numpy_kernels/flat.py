"""The flat vector of weights in pieces, so that a line of vector algebra finds them in the cache.

That gains where the vectors do not lie there anyhow: not for 0.27 M weights, much for 11 M.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from rsam_backends.base import Array
from rsam_backends.box_muller import FEW
from rsam_backends.numpy_kernels.blocks import blocks
from rsam_backends.threads import share_out

PIECE = 1 << 20
"""Bytes of a vector that are worked on at a time."""

MANY = 1 << 20
"""Weights below which an update as a whole is as fast."""


def piecewise(work: Callable[..., None], *vectors: Array) -> None:
    """On one thread SGD's update of 11 M weights in half the time, AdamW's in a third."""
    first = vectors[0]
    if first.size < MANY or any(v.shape != first.shape for v in vectors):
        return NotImplemented
    pieces = blocks(first.size, first.itemsize, PIECE)
    share_out(lambda piece: work(*(v[piece] for v in vectors)), pieces)


def scaled_draw(
    w: Array, shapes: Sequence[tuple[int, ...]], z: Array, *, sigma: float, tiny: float
) -> Array:
    """A dot product for every filter, and no vector of scales: 0.7 times the time on 0.27 M.

    Those of short draws are left to the definition, for their last bits.
    """
    fits = isinstance(w, np.ndarray) and sum(map(math.prod, shapes)) == w.size
    if not fits or w.size <= FEW or w.dtype != z.dtype:
        return NotImplemented
    pieces: list[tuple[Array, Array, float]] = []
    start = 0
    for shape in shapes:
        filters = shape[0] if len(shape) > 1 else 1
        run = slice(start, start + math.prod(shape))
        start = run.stop
        weights, draws = w[run].reshape(filters, -1), z[run].reshape(filters, -1)
        extra = tiny if len(shape) == 1 else 0.0
        parts = blocks(filters, weights.nbytes // filters, PIECE)
        pieces += [(weights[rows], draws[rows], extra) for rows in parts]

    def work(piece: tuple[Array, Array, float]) -> None:
        w, z, tiny = piece
        norms = np.sqrt(np.vecdot(w, w))[:, None]  # (rows, 1)
        if tiny:
            norms += tiny
        z *= sigma * norms

    share_out(work, pieces)
    return z
