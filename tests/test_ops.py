"""Every op of ``ops.py`` against PyTorch, over drawn shapes, axes, broadcasts and indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rsam_ref import ShapeError, Tensor
from rsam_ref.autograd import ops
from tests.helpers.oracle import compare, normal, positive, tied

pytestmark = pytest.mark.usefixtures("device")

SEEDS = st.integers(0, 2**16)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)
PAIRS = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4)
TRIPLES = hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)
PRODUCTS = hnp.mutually_broadcastable_shapes(
    signature="(m?,k),(k,n?)->(m?,n?)", max_dims=2, max_side=4
)


# Elementwise

BINARY: dict[str, tuple[Any, ...]] = {
    "add": (ops.add, torch.add, normal),
    "sub": (ops.sub, torch.sub, normal),
    "mul": (ops.mul, torch.mul, normal),
    "div": (ops.div, torch.div, positive),
    "maximum": (ops.maximum, torch.maximum, tied),
    "minimum": (ops.minimum, torch.minimum, tied),
    "operators": (*[lambda x, y: (x + y) * x - y / (x * x + 1)] * 2, normal),
}


@pytest.mark.parametrize("name", BINARY)
@given(shapes=PAIRS, seed=SEEDS)
def test_two_inputs_broadcast(name, shapes, seed):
    ours, theirs, draw = BINARY[name]
    compare(name, ours, theirs, *draw(seed, *shapes.input_shapes))


NUMBERS = {
    "x + c": lambda x, c: x + c,
    "c + x": lambda x, c: c + x,
    "x - c": lambda x, c: x - c,
    "c - x": lambda x, c: c - x,
    "x * c": lambda x, c: x * c,
    "c * x": lambda x, c: c * x,
    "x / c": lambda x, c: x / c,
    "c / x": lambda x, c: c / x,
}


@pytest.mark.parametrize("name", NUMBERS)
@given(shape=SHAPES, seed=SEEDS, c=st.sampled_from([2, -3, 0.1, 1e3]))
def test_python_numbers_on_both_sides(name, shape, seed, c):
    f = lambda x: NUMBERS[name](x, c)
    compare(f"{name} with c = {c}", f, f, *positive(seed, shape))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("c", [0, 1, -0.5])
def test_a_number_as_bound(name, c):
    ours, theirs = getattr(ops, name), getattr(torch, name)
    theirs_with = lambda x: theirs(x, torch.full_like(x, c))
    compare(name, lambda x: ours(x, c), theirs_with, *tied(0, (5, 4)))
    compare(name, lambda x: ours(c, x), theirs_with, *tied(0, (5, 4)))


@given(shapes=TRIPLES, seed=SEEDS)
def test_where(shapes, seed):
    condition, x, y = normal(seed, *shapes.input_shapes)
    compare("where", ops.where, torch.where, np.asarray(condition > 0), x, y)


UNARY: dict[str, tuple[Any, ...]] = {
    "neg": (ops.neg, torch.neg, normal),
    "-x": (*[lambda x: -x] * 2, normal),
    "exp": (ops.exp, torch.exp, normal),
    "log": (ops.log, torch.log, positive),
    "sqrt": (ops.sqrt, torch.sqrt, positive),
    "absolute": (ops.absolute, torch.abs, tied),
    "tanh": (ops.tanh, torch.tanh, normal),
    "tanh, saturated": (lambda x: ops.tanh(30 * x), lambda x: torch.tanh(30 * x), normal),
    "clip": (lambda x: ops.clip(x, low=-1, high=1.5), lambda x: torch.clamp(x, -1, 1.5), tied),
    "x.sum()": (*[lambda x: x.sum()] * 2, normal),
    "x.mean()": (*[lambda x: x.mean()] * 2, normal),
    "x.reshape(-1)": (*[lambda x: x.reshape(-1)] * 2, normal),
    "x.transpose()": (lambda x: x.transpose(), lambda x: x.permute([*range(x.ndim)][::-1]), normal),
}


@pytest.mark.parametrize("name", UNARY)
@given(shape=SHAPES, seed=SEEDS)
def test_one_input(name, shape, seed):
    ours, theirs, draw = UNARY[name]
    compare(name, ours, theirs, *draw(seed, shape))


@pytest.mark.parametrize(
    ("exponent", "draw"),
    [(0, tied), (1, tied), (2, tied), (3, normal), (2.0, tied), (-1, positive), (0.5, positive)],
)
def test_power(exponent, draw):
    f = lambda x: x**exponent
    compare(f"power {exponent}", f, f, *draw(0, (4, 5)))


# Reductions

REDUCTIONS = {
    "sum": torch.sum,
    "mean": torch.mean,
    "var": lambda x, dim, keepdim: torch.var(x, dim, correction=0, keepdim=keepdim),
    "amax": torch.amax,
    "amin": torch.amin,
}


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data(), seed=SEEDS, keepdims=st.booleans(), draw=st.sampled_from([normal, tied]))
def test_reductions(name, data, seed, keepdims, draw):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=4))
    axes = data.draw(
        st.none()
        | st.integers(-len(shape), len(shape) - 1)
        | hnp.valid_tuple_axes(len(shape), min_size=1)
    )
    every = tuple(range(len(shape)))
    compare(
        f"{name} over {axes}, keepdims={keepdims}",
        lambda x: getattr(ops, name)(x, axis=axes, keepdims=keepdims),
        lambda x: REDUCTIONS[name](x, dim=every if axes is None else axes, keepdim=keepdims),
        *draw(seed, shape),
    )


@pytest.mark.parametrize(
    ("name", "axis"),
    [(name, axis) for name in REDUCTIONS for axis in (2, -3, (0, 2), (1, -1))]
    + [("concatenate", 2), ("concatenate", -3), ("stack", 3), ("stack", -4)],
)
def test_axes_that_an_array_has_not_are_errors(name, axis):
    with pytest.raises(ValueError, match=name):
        getattr(ops, name)(Tensor(np.ones((2, 3))), axis=axis)


def test_an_axis_may_be_a_numpy_integer():
    assert ops.sum(Tensor(np.ones((2, 3))), axis=np.int64(1)).shape == (2,)


# Shapes


@given(data=st.data(), seed=SEEDS)
def test_reshape(data, seed):
    shape = data.draw(SHAPES)
    new = list(data.draw(st.permutations([*shape, 1])))
    if data.draw(st.booleans()):
        new[data.draw(st.integers(0, len(new) - 1))] = -1
    f = lambda x: x.reshape(*new)
    compare(f"reshape to {new}", f, f, *normal(seed, shape))
    assert Tensor(np.ones(shape)).reshape(tuple(new)).shape == np.ones(shape).reshape(new).shape


@given(data=st.data(), seed=SEEDS)
def test_transpose(data, seed):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=4))
    axes = data.draw(st.permutations(range(len(shape))))
    axes = tuple(a - len(shape) * data.draw(st.booleans()) for a in axes)
    ours = lambda x: x.transpose(*axes)
    compare(f"transpose {axes}", ours, lambda x: x.permute(*axes), *normal(seed, shape))


@pytest.mark.parametrize("axes", [(1, 2), (0, -3), (0, 0), (0,)])
def test_transpose_takes_permutations_only(axes):
    with pytest.raises(ValueError, match="transpose"):
        Tensor(np.ones((2, 3))).transpose(axes)


@given(shapes=PAIRS, seed=SEEDS)
def test_broadcast_to(shapes, seed):
    shape = shapes.result_shape
    ours = lambda x: ops.broadcast_to(x, shape=shape)
    theirs = lambda x: torch.broadcast_to(x, shape)
    compare(f"broadcast to {shape}", ours, theirs, *normal(seed, shapes.input_shapes[0]))


@given(data=st.data(), seed=SEEDS)
def test_pad(data, seed):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=3))
    widths = tuple(data.draw(st.tuples(*[st.integers(0, 2)] * 2)) for _ in shape)
    last_first = [n for pair in reversed(widths) for n in pair]
    ours = lambda x: ops.pad(x, widths=widths)
    theirs = lambda x: torch.nn.functional.pad(x, last_first)
    compare(f"pad by {widths}", ours, theirs, *normal(seed, shape))


def test_pad_wants_a_pair_for_every_axis():
    with pytest.raises(ShapeError, match="pad"):
        ops.pad(Tensor(np.ones((2, 3))), widths=((1, 1),))


@given(data=st.data(), seed=SEEDS)
def test_concatenate(data, seed):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shapes = []
    for _ in range(data.draw(st.integers(1, 4))):
        shapes.append([*shape])
        shapes[-1][axis] = data.draw(st.integers(1, 3))
    ours = lambda *xs: ops.concatenate(*xs, axis=axis)
    compare(
        f"concatenate along {axis}", ours, lambda *xs: torch.cat(xs, axis), *normal(seed, *shapes)
    )


@given(data=st.data(), seed=SEEDS)
def test_stack(data, seed):
    shape = data.draw(SHAPES)
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    shapes = [shape] * data.draw(st.integers(1, 4))
    ours = lambda *xs: ops.stack(*xs, axis=axis)
    compare(f"stack along {axis}", ours, lambda *xs: torch.stack(xs, axis), *normal(seed, *shapes))


# Indexing


def index_of_arrays(shape):
    """A mask over some leading axes, or whole-number arrays for them (elements may repeat)."""
    masks = st.integers(1, len(shape)).flatmap(lambda n: hnp.arrays(bool, shape[:n]))
    ranks = st.integers(1, len(shape))
    return masks | ranks.flatmap(lambda n: hnp.integer_array_indices(shape[:n]))


@given(data=st.data(), seed=SEEDS)
def test_getitem(data, seed):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=4))
    basic = hnp.basic_indices(shape, allow_newaxis=True)
    index = data.draw(basic | index_of_arrays(shape))
    # Where each element taken lies in x, as NumPy reads the index; torch then gathers them.
    places = np.arange(np.prod(shape)).reshape(shape)[index]
    theirs = lambda x: x.reshape(-1)[torch.tensor(places.copy())]
    compare(f"getitem {index!r}", lambda x: x[index], theirs, *normal(seed, shape))


MIXED = {
    "an empty list": [],
    "slices with steps": np.s_[::2, 1:, ::-2],
    "ellipsis and None": np.s_[..., None, 1],
    "repeated rows": [2, 0, 2, 2],
    "a list of lists": [[0, 1], [2, 2]],
    "slice and array": np.s_[1:, np.array([0, 3, 3])],
    "array, slice, array": np.s_[np.array([0, 2, 2]), :, np.array([1, 1, 0])],
    "array, number": np.s_[:, np.array([1, 1]), 0],
    "mask and slice": np.s_[np.array([True, False, True]), ::2],
    "a NumPy integer": np.int64(1),
    "a tensor": Tensor([0, 0, 1]),
    "no truth": np.zeros((3, 4), bool),
    "everything": (),
}


@pytest.mark.parametrize("name", MIXED)
def test_getitem_mixed(name):
    index = MIXED[name]
    places = np.arange(60).reshape(3, 4, 5)[index.data if isinstance(index, Tensor) else index]
    theirs = lambda x: x.reshape(-1)[torch.tensor(places.copy())]
    compare(f"getitem: {name}", lambda x: x[index], theirs, *normal(0, (3, 4, 5)))


def test_a_tensor_can_be_iterated():
    rows = list(Tensor(np.arange(6.0).reshape(3, 2)))
    assert [row.shape for row in rows] == [(2,)] * 3


def test_an_index_out_of_bounds_is_an_index_error():
    with pytest.raises(IndexError, match="getitem"):
        Tensor(np.ones(3))[3]


# Products


@given(shapes=PRODUCTS, seed=SEEDS)
def test_matmul(shapes, seed):
    compare("matmul", ops.matmul, torch.matmul, *normal(seed, *shapes.input_shapes))


@given(shapes=PRODUCTS, seed=SEEDS)
def test_matmul_operator_with_a_constant_on_either_side(shapes, seed):
    x, y = normal(seed, *shapes.input_shapes)
    constant = lambda array, like: torch.tensor(array, dtype=like.dtype)
    compare("x @ y", lambda x: x @ Tensor(y, dtype=x.dtype), lambda x: x @ constant(y, x), x)
    compare("x @ y", lambda y: x.astype(y.dtype) @ y, lambda y: constant(x, y) @ y, y)
