"""Activations, number by number in the order in which they lie in memory."""

from __future__ import annotations

import numpy as np

from rsam_backends.base import Array, Result
from rsam_backends.numpy_kernels import pointwise
from rsam_backends.numpy_kernels.blocks import Flat, large
from rsam_backends.onednn.pieces import float32, pieces
from rsam_backends.onednn.primitive import (
    FORWARD,
    MULTIPLY,
    NOT_EQUAL,
    Primitive,
    cached,
    in_order,
)
from rsam_backends.threads import share_out

GELU_ERF, GELU_TANH = 0x31, 0x2B


def relu(x: Array) -> Result:
    """Forward is NumPy's, for oneDNN's relu of nan is 0; backward (value != 0) * g in one pass.

    Backward 1.5 times as fast as NumPy's.
    """
    result = pointwise.relu(x)
    if not float32(x) or result is NotImplemented:
        return NotImplemented
    value, _ = result
    return value, (lambda g: _where_open(value, g),)


def _add_relu(x: Array, y: Array) -> Result:
    """As `relu`."""
    result = pointwise._add_relu(x, y)
    if result is NotImplemented or not float32(x):
        return NotImplemented
    value, _ = result
    return value, pointwise.to_both(lambda g: _where_open(value, g))


def _where_open(value: Array, g: Array) -> Array:
    """The gradient ``g`` where a relu has let something through."""
    lay = Flat(value)
    g, run = np.ascontiguousarray(lay.run(g)), lay.run(value)
    parts = pieces(value.size, 12)
    zero = np.zeros(1, value.dtype)
    back = np.empty_like(g)

    def backward(part: slice) -> None:
        compute = _where_not_zero(part.stop - part.start)
        compute(src=run[part], other=zero, after_0=g[part], dst=back[part])

    share_out(backward, parts)
    return lay.array(back)


@cached
def _where_not_zero(size: int) -> Primitive:
    run = in_order(size)
    return Primitive("binary", NOT_EQUAL, run, in_order(1), run, after=((MULTIPLY, run),))


def gelu(x: Array, *, approximate: bool = False) -> Result:
    """3 times as fast, forward and backward, as the NumPy kernel on 64 x 65 x 768."""
    if not float32(x) or not large(x):
        return NotImplemented
    how = GELU_TANH if approximate else GELU_ERF
    lay = Flat(x)
    run = np.ascontiguousarray(lay.run(x))
    parts = pieces(x.size, 8)
    value = np.empty_like(run)

    def forward(part: slice) -> None:
        _forward(part.stop - part.start, how)(src=run[part], dst=value[part])

    share_out(forward, parts)

    def vjp(g: Array) -> Array:
        g = np.ascontiguousarray(lay.run(g))
        back = np.empty_like(g)

        def backward(part: slice) -> None:
            compute = _backward(part.stop - part.start, how)
            compute(src=run[part], diff_dst=g[part], diff_src=back[part])

        share_out(backward, parts)
        return lay.array(back)

    return lay.array(value), (vjp,)


@cached
def _forward(size: int, how: int) -> Primitive:
    run = in_order(size)
    return Primitive("eltwise_forward", FORWARD, how, run, run, 0.0, 0.0)


@cached
def _backward(size: int, how: int) -> Primitive:
    run, forward = in_order(size), _forward(size, how)
    return Primitive("eltwise_backward", how, run, run, run, 0.0, 0.0, forward=forward)
