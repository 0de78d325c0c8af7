"""Convolution, and its gradients at images and filters.

How the filters lie is left to oneDNN, which puts them in blocks as wide as the processor's
registers; they are packed so, and their gradient is unpacked. Images stay channels last.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rsam_backends.base import Array, Result
from rsam_backends.onednn.pieces import channels_last, float32, length, pieces
from rsam_backends.onednn.primitive import (
    FORWARD,
    Layout,
    Primitive,
    Shape,
    cached,
    far_padding,
    images,
    in_order,
    packing,
    unpacking,
)
from rsam_backends.threads import share_out
from rsam_backends.windows import Pair, fit, pair

DIRECT = 1

Made = tuple[Primitive, Primitive]
"""A convolution, and what packs its filters, or unpacks their gradient."""


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    groups: int = 1,
) -> Result:
    """At 110 to 130 GF/s a core on 3 x 3 filters of 16 to 64 channels, where NumPy has 58 to 78."""
    stride, padding = pair(stride), pair(padding)
    if not _fits(x, weight, bias, stride, padding, groups):
        return NotImplemented
    (n, c, h, w), (o, _, kh, kw) = x.shape, weight.shape
    ho = (h + 2 * padding[0] - kh) // stride[0] + 1
    wo = (w + 2 * padding[1] - kw) // stride[1] + 1
    parts = pieces(n, 2 * (c * h * w + o * ho * wo))  # 2 MB: filters are read once for each piece
    weight = np.ascontiguousarray(weight)
    options = _filters(weight.shape, groups), stride, padding
    lasts = x.transpose(0, 2, 3, 1)
    value = np.empty((n, ho, wo, o), x.dtype)

    def made(make: Callable[..., Made], part: slice, *more: bool) -> Made:
        m = length(part)
        return make((m, c, h, w), (m, o, ho, wo), *options, *more)

    def packed(make: Callable[..., Made], *more: bool) -> dict[int, Array]:
        """The filters as pieces of each size want them."""
        ready = {}
        for part in {length(part): part for part in parts}.values():
            compute, pack = made(make, part, *more)
            ready[length(part)] = compute.room_for("weights")
            pack(src=weight, dst=ready[length(part)])
        return ready

    biased = {} if bias is None else {"bias": np.ascontiguousarray(bias)}
    filters = packed(_forward, bias is not None)

    def forward(part: slice) -> None:
        compute, _ = made(_forward, part, bias is not None)
        here = np.ascontiguousarray(lasts[part])
        compute(src=here, weights=filters[length(part)], **biased, dst=value[part])

    share_out(forward, parts)

    def vjp_x(g: Array) -> Array:
        g = channels_last(g)
        back = np.empty((n, h, w, c), x.dtype)
        filters = packed(_backward_data)

        def backward(part: slice) -> None:
            compute, _ = made(_backward_data, part)
            compute(diff_dst=g[part], weights=filters[length(part)], diff_src=back[part])

        share_out(backward, parts)
        return back.transpose(0, 3, 1, 2)

    def vjp_weight(g: Array) -> Array:
        g = channels_last(g)
        sums = np.empty((len(parts), *weight.shape), x.dtype)

        def backward(i: int) -> None:
            compute, unpack = made(_backward_weights, parts[i])
            here, room = np.ascontiguousarray(lasts[parts[i]]), compute.room_for("diff_weights")
            compute(src=here, diff_dst=g[parts[i]], diff_weights=room)
            unpack(src=room, dst=sums[i])

        share_out(backward, range(len(parts)))
        return sums.sum(axis=0)  # in the order of the parts, whatever thread did them

    def vjp_bias(g: Array) -> Array:
        g = g.transpose(0, 2, 3, 1).reshape(-1, o)
        return np.ones(len(g), g.dtype) @ g

    return value.transpose(0, 3, 1, 2), (vjp_x, vjp_weight, vjp_bias)


def _fits(
    x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, groups: int
) -> bool:
    """Whether it can be computed here; what is left, the definition does or says what is wrong."""
    if not float32(x, weight, bias) or x.ndim != 4 or weight.ndim != 4 or groups < 1:
        return False
    o, c = weight.shape[:2]
    if x.shape[1] != c * groups or o % groups or (bias is not None and bias.shape != (o,)):
        return False
    return fit(x, weight.shape[2:], stride, padding)


def _filters(shape: Shape, groups: int) -> Layout:
    """(O, C / G, kH, kW), or with groups (G, O / G, C / G, kH, kW)."""
    o, *rest = shape
    return in_order(*shape) if groups == 1 else in_order(groups, o // groups, *rest)


def _moves(x: Shape, y: Shape, filters: Layout, stride: Pair, padding: Pair) -> tuple[Pair, ...]:
    """Stride, dilation and paddings, as all three C functions take them."""
    far = far_padding(x, y, filters.shape[-2:], stride, padding)  # type: ignore[arg-type]
    return stride, (0, 0), padding, far


@cached
def _forward(
    x: Shape, y: Shape, filters: Layout, stride: Pair, padding: Pair, biased: bool = False
) -> Made:
    layouts = images(*x), Layout(filters.shape), in_order(y[1]) if biased else None, images(*y)
    moves = _moves(x, y, filters, stride, padding)
    made = Primitive("convolution_forward", FORWARD, DIRECT, *layouts, *moves)
    return made, packing(filters, made, "weights")


@cached
def _backward_data(x: Shape, y: Shape, filters: Layout, stride: Pair, padding: Pair) -> Made:
    layouts = images(*x), Layout(filters.shape), images(*y)
    moves = _moves(x, y, filters, stride, padding)
    forward, _ = _forward(x, y, filters, stride, padding)
    made = Primitive("convolution_backward_data", DIRECT, *layouts, *moves, forward=forward)
    return made, packing(filters, made, "weights")


@cached
def _backward_weights(x: Shape, y: Shape, filters: Layout, stride: Pair, padding: Pair) -> Made:
    layouts = images(*x), Layout(filters.shape), None, images(*y)
    moves = _moves(x, y, filters, stride, padding)
    forward, _ = _forward(x, y, filters, stride, padding)
    made = Primitive("convolution_backward_weights", DIRECT, *layouts, *moves, forward=forward)
    return made, unpacking(made, "diff_weights", filters)
