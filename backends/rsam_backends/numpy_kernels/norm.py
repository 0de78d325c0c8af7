"""Batch and layer normalisation, in pieces that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from rsam_backends.base import Array, Result
from rsam_backends.numpy_kernels import blocks
from rsam_backends.numpy_kernels.blocks import column_sums, large, pieces
from rsam_backends.threads import share_out

ROW = 2048
"""Numbers in a row of `_Channels`."""


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and variance by channel, in two passes over blocks of rows."""
    if not _channels_last(x):
        return NotImplemented
    lay = _Channels(x)
    rows = lay.rows(x)
    mean = lay.sums(lambda piece: (rows[piece],))[0] / lay.count
    wide_mean = lay.wide(mean)

    def squares(piece: slice) -> tuple[Array, ...]:
        centred = rows[piece] - wide_mean
        centred *= centred
        return (centred,)

    return mean, lay.sums(squares)[0] / lay.count


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    mean: Array,
    var: Array,
    eps: float = 1e-5,
    constant: bool = False,
    across: Callable[[Array], Array] | None = None,
) -> Result:
    """x -> scale x + shift, forward; dx = scale g + along_x x + rest, backward; all by channel.

    4 times as fast as the definition on 128 x 16 x 32 x 32.
    """
    by_channel = gamma, beta, mean, var
    if not _channels_last(x) or any(a.shape != x.shape[1:2] for a in by_channel):
        return NotImplemented
    lay = _Channels(x)
    rows = lay.rows(x)
    inverse_std = 1 / np.sqrt(var + eps)
    scale = gamma * inverse_std
    wide_mean, wide_scale = map(lay.wide, (mean, scale))
    wide_shift = lay.wide(beta - mean * scale)
    value = np.empty_like(rows)

    def forward(piece: slice) -> None:
        out = value[piece]
        np.multiply(rows[piece], wide_scale, out=out)
        out += wide_shift

    share_out(forward, lay.pieces)

    def vjps(g: Array) -> tuple[Array | None, ...]:
        g = lay.rows(g)

        def shares(piece: slice) -> tuple[Array, ...]:
            product = rows[piece] - wide_mean
            product *= g[piece]
            return product, g[piece]

        g_gamma, g_beta = lay.sums(shares)
        g_gamma *= inverse_std
        back = np.empty_like(rows)
        mean_gamma, mean_beta = g_gamma / lay.count, g_beta / lay.count
        if across is not None:
            mean_gamma, mean_beta = across(np.stack([mean_gamma, mean_beta]))
        along_x = np.zeros_like(mean) if constant else -scale * inverse_std * mean_gamma
        rest = -along_x * mean - (0 if constant else scale * mean_beta)
        wide_along_x, wide_rest = lay.wide(along_x), lay.wide(rest)

        def backward(piece: slice) -> None:
            out = back[piece]
            np.multiply(rows[piece], wide_along_x, out=out)
            out += g[piece] * wide_scale
            out += wide_rest

        share_out(backward, lay.pieces)
        return lay.images(back), g_gamma, g_beta

    return lay.images(value), vjps


class _Channels:
    """Images (N, C, H, W) that lie channels last, as rows of k * C numbers: k places side by side.

    NumPy is slow on short rows.
    """

    def __init__(self, x: Array) -> None:
        n, c, h, w = x.shape
        self.count = n * h * w
        self.k = math.gcd(self.count, max(1, ROW // c))
        self.last = n, h, w, c
        size = self.k * c * x.itemsize
        self.pieces = blocks.blocks(self.count // self.k, size, blocks.PIECE)

    def rows(self, x: Array) -> Array:
        """(N, C, H, W) -> (N * H * W / k, k * C)."""
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(-1, self.k * self.last[3])

    def images(self, rows: Array) -> Array:
        """(N * H * W / k, k * C) -> (N, C, H, W)."""
        return rows.reshape(self.last).transpose(0, 3, 1, 2)

    def wide(self, by_channel: Array) -> Array:
        """(C,) -> (k * C,)."""
        return np.tile(by_channel, self.k)

    def sums(self, make: Callable[[slice], Sequence[Array]]) -> list[Array]:
        """For each array of rows that ``make(piece)`` gives, the sum by channel (C,)."""
        return [s.reshape(self.k, -1).sum(axis=0) for s in column_sums(make, self.pieces)]


def _channels_last(x: Array) -> bool:
    last = x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous
    return last and x.size > 0 and x.dtype.kind == "f"


def layer_norm(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Result:
    """Sums of rows and of columns as products with vectors: 1.5 times as fast on 64 x 65 x 192."""
    width = x.shape[-1] if x.ndim else 0
    if not large(x, gamma, beta) or not gamma.shape == beta.shape == (width,):
        return NotImplemented
    shape, rows = x.shape, x.reshape(-1, width)
    x_hat, value = np.empty_like(rows), np.empty_like(rows)
    inverse_std = np.empty((len(rows), 1), x.dtype)
    mean_of = np.full((width, 1), 1 / width, x.dtype)
    parts = pieces(rows)

    def forward(part: slice) -> None:
        centred, out, inverse = x_hat[part], value[part], inverse_std[part]
        np.subtract(rows[part], rows[part] @ mean_of, out=centred)
        np.multiply(centred, centred, out=out)
        np.matmul(out, mean_of, out=inverse)
        inverse += eps
        np.sqrt(inverse, out=inverse)
        np.reciprocal(inverse, out=inverse)
        centred *= inverse
        np.multiply(centred, gamma, out=out)
        out += beta

    share_out(forward, parts)

    def vjps(g: Array) -> tuple[Array | None, ...]:
        g = g.reshape(rows.shape)
        back = np.empty_like(rows)
        scale = gamma[:, None] * mean_of

        def shares(part: slice) -> tuple[Array, ...]:
            out, product = back[part], g[part] * x_hat[part]
            np.multiply(g[part], gamma, out=out)
            out -= g[part] @ scale
            out -= x_hat[part] * (product @ scale)
            out *= inverse_std[part]
            return product, g[part]

        return back.reshape(shape), *column_sums(shares, parts)

    return value.reshape(shape), vjps
