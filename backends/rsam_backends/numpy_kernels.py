"""The NumPy backend's faster ops: each has its definition's signature, and is tested against it.

Images are logically (N, C, H, W) everywhere. In here they lie channels last, (N, H, W, C), and are
handed out as views of that, so that the next layer finds them as it wants them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from rsam_backends.threads import share_out

BLOCK = 2 << 20
"""Bytes of window rows that are made and used at a time: they should stay in a core's cache."""

ROW = 2048
"""Numbers in a row of `_Channels`."""


def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1):
    """Windows as rows, filters as columns, one product for each block of images."""
    if not _fits(x, weight, bias, stride, padding, groups):
        return NotImplemented
    (sh, sw), (ph, pw) = _pair(stride), _pair(padding)
    o, c, kh, kw = weight.shape
    n, _, h, w = x.shape
    ho, wo = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    images = x.transpose(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
    filters = weight.transpose(2, 3, 1, 0).reshape(kh * kw * c, o)
    blocks = _blocks(n, ho * wo * filters.shape[0] * x.itemsize)

    def rows(block):  # (block * Ho * Wo, kH * kW * C)
        return _rows(images[block], (kh, kw), (sh, sw), (ph, pw))

    value = np.empty((n, ho, wo, o), x.dtype)

    def forward(block):
        out = value[block].reshape(-1, o)
        np.matmul(rows(block), filters, out=out)
        if bias is not None:
            out += bias

    share_out(forward, blocks)

    def vjp_x(g):
        g = g.transpose(0, 2, 3, 1)
        back = np.empty((n, h, w, c), x.dtype)
        if (sh, sw) == (1, 1) and ph < kh and pw < kw:
            # The gradient is itself a convolution: of g, with every filter turned by 180 degrees.
            turned = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(kh * kw * o, c)

            def backward(block):
                spread = _rows(g[block], (kh, kw), (1, 1), (kh - 1 - ph, kw - 1 - pw))
                np.matmul(spread, turned, out=back[block].reshape(-1, c))

        else:

            def backward(block):
                spread = (g[block].reshape(-1, o) @ filters.T).reshape(-1, ho, wo, kh, kw, c)
                padded = np.zeros((len(spread), h + 2 * ph, w + 2 * pw, c), x.dtype)
                for i in range(kh):
                    for j in range(kw):
                        into = padded[:, i : i + sh * ho : sh, j : j + sw * wo : sw]
                        into += spread[:, :, :, i, j]
                back[block] = padded[:, ph : ph + h, pw : pw + w]

        share_out(backward, blocks)
        return back.transpose(0, 3, 1, 2)

    def vjp_weight(g):
        g = g.transpose(0, 2, 3, 1)
        parts = np.empty((len(blocks), *filters.shape), x.dtype)

        def backward(block):
            i = block.start // blocks[0].stop
            np.matmul(rows(block).T, g[block].reshape(-1, o), out=parts[i])

        share_out(backward, blocks)
        # Summed in the order of the blocks, so that the number of threads changes nothing.
        return parts.sum(axis=0).reshape(kh, kw, c, o).transpose(3, 2, 0, 1)

    return value.transpose(0, 3, 1, 2), (vjp_x, vjp_weight, lambda g: g.sum(axis=(0, 2, 3)))


def _rows(images, window, stride, padding):
    """Every window of images (B, H, W, C) as a row: (B * Ho * Wo, kH * kW * C)."""
    (kh, kw), (sh, sw), (ph, pw) = window, stride, padding
    b, h, w, c = images.shape
    if window == (1, 1) and padding == (0, 0):
        return images[:, ::sh, ::sw].reshape(-1, c)
    padded = np.zeros((b, h + 2 * ph, w + 2 * pw, c), images.dtype)
    padded[:, ph : ph + h, pw : pw + w] = images
    ho, wo = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    along_n, along_h, along_w, one = padded.strides
    # In memory a window is kH runs, each of kW * C numbers that lie side by side.
    windows = as_strided(
        padded,
        (b, ho, wo, kh, kw * c),
        (along_n, along_h * sh, along_w * sw, along_h, one),
        writeable=False,
    )
    return windows.reshape(b * ho * wo, kh * kw * c)


def _blocks(n: int, size: int) -> list[slice]:
    """n images in slices of about `BLOCK` bytes, where an image takes ``size`` bytes."""
    step = max(1, BLOCK // size)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _fits(x, weight, bias, stride, padding, groups) -> bool:
    """Whether the kernel can do it; what it leaves, the definition does or says what is wrong."""
    if groups != 1 or x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        return False
    if x.dtype != weight.dtype or x.dtype.kind != "f" or math.prod(x.shape) == 0:
        return False
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != x.dtype):
        return False
    sizes = zip(x.shape[2:], weight.shape[2:], _pair(padding), _pair(stride))
    return all(size + 2 * p >= k and s >= 1 and p >= 0 for size, k, p, s in sizes)


def batch_statistics(x):
    """Mean and variance by channel, in two passes over blocks of rows."""
    if not _channels_last(x):
        return NotImplemented
    lay = _Channels(x)
    rows = lay.rows(x)
    mean = lay.sum(lambda piece: rows[piece]) / lay.count
    wide_mean = lay.wide(mean)

    def squares(piece):
        centred = rows[piece] - wide_mean
        centred *= centred
        return centred

    return mean, lay.sum(squares) / lay.count


def batch_norm(x, gamma, beta, *, mean, var, eps=1e-5, constant=False, across=None):
    """x -> scale x + shift, forward; dx = scale g + along_x x + rest, backward; all by channel."""
    by_channel = gamma, beta, mean, var
    if not _channels_last(x) or any(a.shape != x.shape[1:2] for a in by_channel):
        return NotImplemented
    lay = _Channels(x)
    rows = lay.rows(x)
    inverse_std = 1 / np.sqrt(var + eps)
    scale = gamma * inverse_std
    wide_mean, wide_inverse_std, wide_scale = map(lay.wide, (mean, inverse_std, scale))
    wide_shift = lay.wide(beta - mean * scale)
    value = np.empty_like(rows)

    def forward(piece):
        np.multiply(rows[piece], wide_scale, out=value[piece])
        value[piece] += wide_shift

    share_out(forward, lay.pieces)

    def vjps(g):
        g = lay.rows(g)

        def products(piece):  # g * x_hat
            x_hat = rows[piece] - wide_mean
            x_hat *= wide_inverse_std
            x_hat *= g[piece]
            return x_hat

        g_gamma, g_beta = lay.sum(products), lay.sum(lambda piece: g[piece])
        back = np.empty_like(rows)
        mean_gamma, mean_beta = g_gamma / lay.count, g_beta / lay.count
        if across is not None:
            mean_gamma, mean_beta = across(mean_gamma), across(mean_beta)
        along_x = np.zeros_like(mean) if constant else -scale * inverse_std * mean_gamma
        rest = -along_x * mean - (0 if constant else scale * mean_beta)
        wide_along_x, wide_rest = lay.wide(along_x), lay.wide(rest)

        def backward(piece):
            np.multiply(rows[piece], wide_along_x, out=back[piece])
            back[piece] += g[piece] * wide_scale
            back[piece] += wide_rest

        share_out(backward, lay.pieces)
        return lay.images(back), g_gamma, g_beta

    return lay.images(value), vjps


class _Channels:
    """Images (N, C, H, W) that lie channels last, as rows of k * C numbers: k places side by side.

    NumPy is slow on short rows, and its fastest sum over rows is a matrix product with ones.
    """

    def __init__(self, x) -> None:
        n, c, h, w = x.shape
        self.count = n * h * w
        self.k = math.gcd(self.count, max(1, ROW // c))
        self.last = n, h, w, c
        height = self.count // self.k
        step = max(1, BLOCK // 4 // (self.k * c * x.itemsize))
        self.pieces = [slice(i, min(i + step, height)) for i in range(0, height, step)]

    def rows(self, x):
        """(N, C, H, W) -> (N * H * W / k, k * C)."""
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(-1, self.k * self.last[3])

    def images(self, rows):
        """(N * H * W / k, k * C) -> (N, C, H, W)."""
        return rows.reshape(self.last).transpose(0, 3, 1, 2)

    def wide(self, by_channel):
        """(C,) -> (k * C,)."""
        return np.tile(by_channel, self.k)

    def sum(self, make):
        """The sum by channel (C,) of the rows that ``make(piece)`` gives, piece by piece."""
        parts: list[Any] = [None] * len(self.pieces)

        def work(i):
            rows = make(self.pieces[i])
            parts[i] = np.ones(len(rows), rows.dtype) @ rows

        share_out(work, range(len(parts)))
        # In the order of the pieces, so that the number of threads changes nothing.
        return np.sum(parts, axis=0).reshape(self.k, -1).sum(axis=0)


def _channels_last(x) -> bool:
    last = x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous
    return last and x.size > 0 and x.dtype.kind == "f"


KERNELS: dict[str, Callable[..., Any]] = {
    "conv2d": conv2d,
    "batch_norm": batch_norm,
    "batch_statistics": batch_statistics,
}
