"""Pooling: maxima and means of windows."""

from __future__ import annotations

import math

import numpy as np

from rsam_backends.base import Array, Result
from rsam_backends.onednn.pieces import channels_last, float32, length, pieces
from rsam_backends.onednn.primitive import FORWARD, Primitive, Shape, cached, far_padding, images
from rsam_backends.threads import share_out
from rsam_backends.windows import Pair, fit, pair

LARGEST, MEAN = 0x1FF, 0x2FF


def max_pool2d(
    x: Array, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Result:
    """11 times as fast as the NumPy kernel on 128 x 32 x 28 x 28.

    oneDNN passes over nan, and takes windows of -inf for its smallest number: both are left to the
    definition.
    """
    return _pool(LARGEST, x, window, stride, padding)


def avg_pool2d(
    x: Array, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Result:
    """Padding counts as zeros."""
    return _pool(MEAN, x, window, stride, padding)


def _pool(
    how: int, x: Array, window: int | Pair, stride: int | Pair | None, padding: int | Pair
) -> Result:
    window, padding = pair(window), pair(padding)
    stride = window if stride is None else pair(stride)
    if x.ndim != 4 or not float32(x) or not fit(x, window, stride, padding, pooling=True):
        return NotImplemented
    n, c, h, w = x.shape
    ho, wo = ((a + 2 * p - k) // s + 1 for a, p, k, s in zip((h, w), padding, window, stride))
    options = how, window, stride, padding
    parts = pieces(n, 4 * c * (h * w + ho * wo))
    lasts = x.transpose(0, 2, 3, 1)
    value = np.empty((n, ho, wo, c), x.dtype)
    winners: list[dict[str, Array]] = [{} for _ in parts]
    finite = [True] * len(parts)

    def shapes(part: slice) -> tuple[Shape, Shape]:
        m = length(part)
        return (m, c, h, w), (m, c, ho, wo)

    def forward(i: int) -> None:
        compute, here = _forward(*shapes(parts[i]), *options), np.ascontiguousarray(lasts[parts[i]])
        if how == LARGEST:
            winners[i] = {"workspace": compute.room_for("workspace")}
            run = here.reshape(-1)
            finite[i] = math.isfinite(run @ run)
        compute(src=here, dst=value[parts[i]], **winners[i])

    share_out(forward, range(len(parts)))
    if not all(finite):
        return NotImplemented

    def vjp(g: Array) -> Array:
        g = channels_last(g)
        back = np.empty((n, h, w, c), x.dtype)

        def backward(i: int) -> None:
            compute = _backward(*shapes(parts[i]), *options)
            compute(diff_dst=g[parts[i]], diff_src=back[parts[i]], **winners[i])

        share_out(backward, range(len(parts)))
        return back.transpose(0, 3, 1, 2)

    return value.transpose(0, 3, 1, 2), (vjp,)


@cached
def _forward(x: Shape, y: Shape, how: int, window: Pair, stride: Pair, padding: Pair) -> Primitive:
    paddings = padding, far_padding(x, y, window, stride, padding)
    layouts = images(*x), images(*y)
    return Primitive("pooling_forward", FORWARD, how, *layouts, stride, window, (0, 0), *paddings)


@cached
def _backward(x: Shape, y: Shape, how: int, window: Pair, stride: Pair, padding: Pair) -> Primitive:
    paddings = padding, far_padding(x, y, window, stride, padding)
    options = images(*x), images(*y), stride, window, (0, 0), *paddings
    forward = _forward(x, y, how, window, stride, padding)
    return Primitive("pooling_backward", how, *options, forward=forward)
