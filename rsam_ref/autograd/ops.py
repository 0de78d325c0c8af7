"""The ops that array libraries have: each one its value, and beside it the way back.

A definition takes arrays and returns ``(value, vjps)``: one function for each input that turns the
gradient ``g`` at the output into the gradient at that input. `op` makes it an op on tensors. The
inputs broadcast as in NumPy; a gradient is summed back to its input's shape by `unbroadcast`.
"""

from __future__ import annotations

import itertools
import math
import operator
from numbers import Integral, Real
from typing import Any

from rsam_backends import gather, scatter_add, xp
from rsam_backends.base import Array, Result, Vjp
from rsam_ref.autograd.errors import ShapeError
from rsam_ref.autograd.op import op
from rsam_ref.autograd.tensor import Tensor

Axes = int | tuple[int, ...] | None


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of an array; () for a Python number."""
    return getattr(x, "shape", ())


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``g`` over the axes along which an input of this shape was repeated."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    repeated = tuple(i for i, n in enumerate(shape, start=extra) if n == 1 and g.shape[i] != 1)
    return xp.reshape(xp.sum(g, axis=(*range(extra), *repeated)), shape)


# Elementwise, two inputs


@op(alike=(0, 1))
def add(x: Array, y: Array) -> Result:
    """``x + y``."""
    sx, sy = shape_of(x), shape_of(y)
    return x + y, (lambda g: unbroadcast(g, sx), lambda g: unbroadcast(g, sy))


@op(alike=(0, 1))
def sub(x: Array, y: Array) -> Result:
    """``x - y``."""
    sx, sy = shape_of(x), shape_of(y)
    return x - y, (lambda g: unbroadcast(g, sx), lambda g: unbroadcast(-g, sy))


@op(alike=(0, 1))
def mul(x: Array, y: Array) -> Result:
    """``x * y``, element by element."""
    sx, sy = shape_of(x), shape_of(y)
    return x * y, (lambda g: unbroadcast(g * y, sx), lambda g: unbroadcast(g * x, sy))


@op(alike=(0, 1))
def div(x: Array, y: Array) -> Result:
    """``x / y``, element by element."""
    sx, sy = shape_of(x), shape_of(y)
    value = x / y
    return value, (lambda g: unbroadcast(g / y, sx), lambda g: unbroadcast(-g * value / y, sy))


@op(alike=(0, 1))
def maximum(x: Array, y: Array) -> Result:
    """The larger of each pair; the gradient of a tie goes to both in halves."""
    sx, sy = shape_of(x), shape_of(y)
    return xp.maximum(x, y), (
        lambda g: unbroadcast(_won(g, x < y, x == y), sx),
        lambda g: unbroadcast(_won(g, x > y, x == y), sy),
    )


@op(alike=(0, 1))
def minimum(x: Array, y: Array) -> Result:
    """The smaller of each pair; the gradient of a tie goes to both in halves."""
    sx, sy = shape_of(x), shape_of(y)
    return xp.minimum(x, y), (
        lambda g: unbroadcast(_won(g, x > y, x == y), sx),
        lambda g: unbroadcast(_won(g, x < y, x == y), sy),
    )


def _won(g: Array, lost: Array, tied: Array) -> Array:
    """The gradient at one of two inputs, of which the larger, or the smaller, was taken."""
    return xp.where(lost, 0, xp.where(tied, 0.5 * g, g))


@op(constants=(0,), alike=(1, 2))
def where(condition: Array, x: Array, y: Array) -> Result:
    """``x`` where the condition holds, else ``y``."""
    sx, sy = shape_of(x), shape_of(y)
    return xp.where(condition, x, y), (
        None,
        lambda g: unbroadcast(xp.where(condition, g, 0), sx),
        lambda g: unbroadcast(xp.where(condition, 0, g), sy),
    )


# Elementwise, one input


@op
def neg(x: Array) -> Result:
    """``-x``."""
    return -x, (lambda g: -g,)


@op
def power(x: Array, *, exponent: float) -> Result:
    """``x ** exponent`` for a constant exponent."""
    if exponent == 0:
        return x**0, (lambda g: xp.zeros_like(g),)
    return x**exponent, (lambda g: g * (exponent * x ** (exponent - 1)),)


@op
def exp(x: Array) -> Result:
    """``e ** x``."""
    value = xp.exp(x)
    return value, (lambda g: g * value,)


@op
def log(x: Array) -> Result:
    """The natural logarithm."""
    return xp.log(x), (lambda g: g / x,)


@op
def sqrt(x: Array) -> Result:
    """The square root; at 0 its gradient is infinite."""
    value = xp.sqrt(x)
    return value, (lambda g: g / (2 * value),)


@op
def absolute(x: Array) -> Result:
    """``|x|``; at 0 the gradient is 0."""
    return xp.abs(x), (lambda g: g * xp.sign(x),)


@op
def tanh(x: Array) -> Result:
    """The hyperbolic tangent."""
    value = xp.tanh(x)
    return value, (lambda g: g * (1 - value * value),)


@op
def clip(x: Array, *, low: float, high: float) -> Result:
    """``x`` kept within [low, high]; outside of it the gradient is 0."""
    return xp.clip(x, low, high), (lambda g: xp.where((x >= low) & (x <= high), g, 0),)


# Reductions

AXES = "give axes that the array has, counted from 0, or from the end as -1, -2, ..."


def _axes(axis: Axes, ndim: int) -> tuple[int, ...]:
    """``axis`` as a tuple of axes counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    axes = [operator.index(a) for a in (axis if isinstance(axis, tuple) else (axis,))]
    if wrong := [a for a in axes if not -ndim <= a < ndim]:
        raise ValueError(f"there is no axis {wrong[0]}")
    return tuple(a % ndim for a in axes)


def _spread(g: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """``g``, reduced over ``axes``, with those axes back as 1, so that it broadcasts to shape."""
    return xp.reshape(g, tuple(1 if i in axes else n for i, n in enumerate(shape)))


@op(remedy=AXES)
def sum(x: Array, *, axis: Axes = None, keepdims: bool = False) -> Result:
    """The sum over these axes, or over all."""
    shape, axes = x.shape, _axes(axis, x.ndim)
    return xp.sum(x, axis=axes, keepdims=keepdims), (
        lambda g: xp.broadcast_to(_spread(g, shape, axes), shape),
    )


@op(remedy=AXES)
def mean(x: Array, *, axis: Axes = None, keepdims: bool = False) -> Result:
    """The mean over these axes, or over all."""
    shape, axes = x.shape, _axes(axis, x.ndim)
    value = xp.mean(x, axis=axes, keepdims=keepdims)
    count = math.prod([shape[axis] for axis in axes])
    return value, (lambda g: xp.broadcast_to(_spread(g / count, shape, axes), shape),)


@op(remedy=AXES)
def var(x: Array, *, axis: Axes = None, keepdims: bool = False) -> Result:
    """The biased variance: the mean squared distance from the mean."""
    axes = _axes(axis, x.ndim)
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    value = xp.mean(centred * centred, axis=axes, keepdims=keepdims)
    count = math.prod([x.shape[axis] for axis in axes])
    return value, (lambda g: centred * _spread(2 * g / count, centred.shape, axes),)


def _extreme(x: Array, value: Array, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Any]:
    """Value and vjp of a maximum or minimum; the gradient of a tie is shared out evenly."""
    at = xp.asarray(x == value, dtype=x.dtype)
    share = at / xp.sum(at, axis=axes, keepdims=True)
    shape = x.shape
    value = value if keepdims else xp.squeeze(value, axis=axes)
    return value, (lambda g: share * _spread(g, shape, axes),)


@op(remedy=AXES)
def amax(x: Array, *, axis: Axes = None, keepdims: bool = False) -> Result:
    """The largest value over these axes; the gradient of a tie is shared out evenly."""
    axes = _axes(axis, x.ndim)
    return _extreme(x, xp.max(x, axis=axes, keepdims=True), axes, keepdims)


@op(remedy=AXES)
def amin(x: Array, *, axis: Axes = None, keepdims: bool = False) -> Result:
    """The smallest value over these axes; the gradient of a tie is shared out evenly."""
    axes = _axes(axis, x.ndim)
    return _extreme(x, xp.min(x, axis=axes, keepdims=True), axes, keepdims)


# Shapes


@op(remedy="give a shape of as many elements")
def reshape(x: Array, *, shape: tuple[int, ...]) -> Result:
    """The same elements in another shape; one size may be -1."""
    before = x.shape
    return xp.reshape(x, shape), (lambda g: xp.reshape(g, before),)


@op(remedy="give every axis of the array once")
def transpose(x: Array, *, axes: tuple[int, ...] | None = None) -> Result:
    """The axes in the order given; reversed where none is."""
    order = tuple(range(x.ndim))[::-1] if axes is None else _axes(axes, x.ndim)
    back = tuple(order.index(i) for i in range(x.ndim))
    return xp.permute_dims(x, order), (lambda g: xp.permute_dims(g, back),)


@op
def broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Result:
    """``x`` repeated along axes that it lacks, or has at size 1."""
    before = x.shape
    return xp.broadcast_to(x, shape), (lambda g: unbroadcast(g, before),)


@op(remedy="give a pair (before, after) for every axis")
def pad(x: Array, *, widths: tuple[tuple[int, int], ...]) -> Result:
    """Zeros around ``x``: (before, after) for each axis."""
    if len(widths) != x.ndim:
        raise ValueError(f"{len(widths)} pairs for {x.ndim} axes")
    if any(min(pair) < 0 for pair in widths):
        raise ValueError("a width below 0")
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))
    shape = tuple(before + n + after for (before, after), n in zip(widths, x.shape))
    value = xp.zeros(shape, dtype=x.dtype)
    value[inside] = x
    return value, (lambda g: g[inside],)


@op(remedy="give arrays that are equal in all axes but the one they are joined along")
def concatenate(*xs: Array, axis: int = 0) -> Result:
    """The arrays end to end along an axis."""
    value = xp.concat(xs, axis=axis)
    before = (slice(None),) * (axis % value.ndim)  # the axes before it, whole
    sizes = [x.shape[axis] for x in xs]
    ends = itertools.accumulate(sizes)
    return value, tuple(
        [_part((*before, slice(end - size, end), ...)) for size, end in zip(sizes, ends)]
    )


@op(remedy="give arrays of equal shapes, and an axis of the result")
def stack(*xs: Array, axis: int = 0) -> Result:
    """The arrays side by side along a new axis."""
    value = xp.stack(xs, axis=axis)
    before = (slice(None),) * (axis % value.ndim)  # the axes before it, whole
    return value, tuple([_part((*before, i, ...)) for i in range(len(xs))])


def _part(index: Any) -> Vjp:
    """The way back to an input that became this part of the value."""
    return lambda g: g[index]


@op(remedy="give an index that fits the array's axes")
def getitem(x: Array, *, index: Any) -> Result:
    """``x[index]``: numbers, slices, None, Ellipsis, and arrays of whole numbers or of truths.

    An element that is taken twice gets the sum of both gradients.
    """
    shape, dtype = x.shape, x.dtype
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple([_index_part(part) for part in parts])
    by_array = any([hasattr(part, "dtype") for part in parts])

    def vjp(g: Array) -> Array:
        full = xp.zeros(shape, dtype=dtype)
        if by_array:
            scatter_add(full, parts, g)
        else:
            full[parts] = g
        return full

    return gather(x, parts) if by_array else x[parts], (vjp,)


def _index_part(part: Any) -> Any:
    """A part of an index; arrays are copied, since the backward pass needs them as they were."""
    if isinstance(part, Tensor):
        part = part._data
    if isinstance(part, (int, slice)) or part is None or part is Ellipsis:
        return part
    dtype = xp.int64 if isinstance(part, list) and not part else None
    return xp.asarray(part, dtype=dtype, copy=True)


# Products


@op(alike=(0, 1))
def matmul(x: Array, y: Array) -> Result:
    """The product of matrices in the last two axes, (..., m, k) @ (..., k, n); others broadcast."""
    sx, sy = shape_of(x), shape_of(y)
    if not sx or not sy or sx[-1] != sy[-2 if len(sy) > 1 else 0]:
        raise ShapeError(
            f"matmul: shapes {sx or x} and {sy or y} do not fit: the last axis of the first must "
            "equal the last but one of the second; transpose or reshape one of them"
        )
    # A vector is a matrix of one row (x) or of one column (y), which the value is then without:
    #     x (k,)       ->  a (1, k)         y (k,)       ->  b (k, 1)
    #     x (..., m, k) =  a                y (..., k, n) =  b            a @ b (..., m, n)
    a = x[None, :] if x.ndim == 1 else x
    b = y[:, None] if y.ndim == 1 else y
    product = a @ b
    shape = product.shape
    rows = () if x.ndim == 1 else shape[-2:-1]
    columns = () if y.ndim == 1 else shape[-1:]
    value = xp.reshape(product, shape[:-2] + rows + columns)

    def vjp_x(g: Array) -> Array:
        return xp.reshape(unbroadcast(xp.reshape(g, shape) @ b.mT, a.shape), sx)

    def vjp_y(g: Array) -> Array:
        return xp.reshape(unbroadcast(a.mT @ xp.reshape(g, shape), b.shape), sy)

    return value, (vjp_x, vjp_y)


# Operators and methods of Tensor


def _shape_arguments(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape


def _power(x: Tensor, exponent: float) -> Tensor:
    if not isinstance(exponent, Real):
        raise TypeError(
            f"power: the exponent must be a number, not {type(exponent).__name__}; "
            "for a variable one use exp(y * log(x))"
        )
    return power(x, exponent=int(exponent) if isinstance(exponent, Integral) else float(exponent))


def _exponential(x: Tensor, base: float) -> Tensor:
    if not isinstance(base, Real) or not base > 0:
        raise TypeError(f"power: beside a tensor as exponent the base must be > 0, not {base!r}")
    return exp(mul(x, math.log(base)))


OTHER_NAMES = {"dot": "matmul", "max": "amax", "min": "amin", "take": "getitem"}
"""What NumPy calls by another name than we do."""


def _no_array_function(_: Tensor, function: Any, *__: Any) -> Any:
    """What NumPy calls for its functions on a tensor, ``np.stack([tensor])``."""
    name = OTHER_NAMES.get(function.__name__, function.__name__)
    instead = f"rsam_ref.autograd.ops.{name}" if name in globals() else "ops of rsam_ref.autograd"
    raise TypeError(
        f"NumPy's {function.__name__} takes arrays, and would leave the graph: use {instead}; "
        "or tensor.data, the array"
    )


Tensor.__array_function__ = _no_array_function
Tensor.__add__ = add
Tensor.__radd__ = lambda x, y: add(y, x)
Tensor.__sub__ = sub
Tensor.__rsub__ = lambda x, y: sub(y, x)
Tensor.__mul__ = mul
Tensor.__rmul__ = lambda x, y: mul(y, x)
Tensor.__truediv__ = div
Tensor.__rtruediv__ = lambda x, y: div(y, x)
Tensor.__matmul__ = matmul
Tensor.__rmatmul__ = lambda x, y: matmul(y, x)
Tensor.__pow__ = _power
Tensor.__rpow__ = _exponential
Tensor.__neg__ = neg
Tensor.__abs__ = absolute
Tensor.__getitem__ = lambda x, index: getitem(x, index=index)
Tensor.exp = exp
Tensor.log = log
Tensor.sqrt = sqrt
Tensor.tanh = tanh
Tensor.sum = sum
Tensor.mean = mean
Tensor.var = var
Tensor.max = amax
Tensor.min = amin
Tensor.reshape = lambda x, *shape: reshape(x, shape=_shape_arguments(shape))
Tensor.transpose = lambda x, *axes: transpose(x, axes=_shape_arguments(axes) if axes else None)
