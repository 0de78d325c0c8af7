"""Pooling, channels last."""

from __future__ import annotations

import math

import numpy as np

from rsam_backends.base import Array, Result
from rsam_backends.numpy_kernels import blocks
from rsam_backends.threads import share_out
from rsam_backends.windows import Pair, fit, pair


def max_pool2d(
    x: Array, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Result:
    """Place after place of all windows at once: 7 times as fast on 128 x 32 x 28 x 28."""
    kh, kw = pair(window)
    sh, sw = pair(window if stride is None else stride)
    ph, pw = pair(padding)
    if x.ndim != 4 or x.size == 0 or x.dtype.kind != "f":
        return NotImplemented
    if not fit(x, (kh, kw), (sh, sw), (ph, pw), pooling=True) or kh * kw > 255:
        return NotImplemented
    n, c, h, w = x.shape
    ho, wo = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    places = [
        (slice(None), slice(i, i + sh * ho, sh), slice(j, j + sw * wo, sw))
        for i in range(kh)
        for j in range(kw)
    ]
    x = x.transpose(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
    parts = blocks.blocks(n, h * w * c * x.itemsize, blocks.PIECE)
    value = np.empty((n, ho, wo, c), x.dtype)
    winner = np.empty(value.shape, np.uint8)
    inside = slice(None), slice(ph, ph + h), slice(pw, pw + w)

    def forward(part: slice) -> None:
        images = x[part]
        if ph or pw:
            images = np.full((len(images), h + 2 * ph, w + 2 * pw, c), -math.inf, x.dtype)
            images[inside] = x[part]
        best, number = value[part], winner[part]
        best[...] = images[places[0]]
        number[...] = 0
        for i, place in enumerate(places[1:], start=1):
            rival = images[place]
            wins = rival > best
            np.maximum(best, rival, out=best)
            np.maximum(number, wins * np.uint8(i), out=number)

    share_out(forward, parts)
    if not value.min() > -math.inf:  # nan, or a window of -inf alone: left to the definition
        return NotImplemented
    apart = sh >= kh and sw >= kw

    def vjp(g: Array) -> Array:
        g = g.transpose(0, 2, 3, 1)
        back = np.empty((n, h, w, c), x.dtype)

        def backward(part: slice) -> None:
            padded = back[part]
            if ph or pw:
                padded = np.empty((len(padded), h + 2 * ph, w + 2 * pw, c), x.dtype)
            padded[...] = 0
            share, number = np.ascontiguousarray(g[part]), winner[part]
            run = share.reshape(-1)
            finite = math.isfinite(run @ run)  # nan times 0 is nan: such a share is chosen instead
            for i, place in enumerate(places):
                if not finite:
                    padded[place] += np.where(number == i, share, 0)
                elif apart:
                    np.multiply(share, number == i, out=padded[place])
                else:
                    padded[place] += share * (number == i)
            if ph or pw:
                back[part] = padded[inside]

        share_out(backward, parts)
        return back.transpose(0, 3, 1, 2)

    return value.transpose(0, 3, 1, 2), (vjp,)
