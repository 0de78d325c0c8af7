"""Every op of ``ops_nn.py`` against PyTorch, and the fused ones against their parts.

The parts are the ops of ``ops.py``: what a fused op computes, and its hand-written gradient, must be
what the tape makes of the formula.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracle import compare, with_ours
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from rsam_backends import Stream
from rsam_ref import ShapeError, Tensor, ops, ops_nn

SEEDS = st.integers(0, 2**16)
SIDES = st.integers(1, 3)
LEADING = hnp.array_shapes(min_dims=0, max_dims=2, max_side=3)


def normal(seed, *shapes):
    """Normal draws, an array for each shape."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape)) for shape in shapes]


def tied(seed, *shapes):
    """Whole numbers from -2 to 2, so that many are equal, or 0, and whole rows may be constant."""
    return [np.asarray(np.clip(np.round(x), -2, 2)) for x in normal(seed, *shapes)]


# Activations

ACTIVATIONS = {
    "relu": (ops_nn.relu, F.relu),
    "sigmoid": (ops_nn.sigmoid, torch.sigmoid),
    "gelu": (ops_nn.gelu, F.gelu),
    "gelu by tanh": (
        lambda x: ops_nn.gelu(x, approximate=True),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(shape=hnp.array_shapes(min_dims=0, max_side=4), seed=SEEDS)
def test_activations(name, shape, seed):
    compare(name, *ACTIVATIONS[name], *normal(seed, shape))
    compare(name, *ACTIVATIONS[name], *tied(seed, shape))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_extreme_values(name):
    compare(name, *ACTIVATIONS[name], np.array([-1e4, -700.0, -90.0, -20.0, 0.0, 20.0, 90.0, 1e4]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_stays_within_0_and_1(dtype):
    value = ops_nn.sigmoid(Tensor([-1e30, -1e3, 0, 1e3, 1e30], dtype=dtype)).data
    np.testing.assert_array_equal(value, [0, 0, 0.5, 1, 1])


# Softmax and losses


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(data=st.data(), seed=SEEDS, scale=st.sampled_from([1, 1e3, 1e6]))
def test_softmax(name, data, seed, scale):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    ours = lambda x: getattr(ops_nn, name)(x, axis=axis)
    theirs = lambda x: getattr(torch, name)(x, axis)
    compare(f"{name} along {axis}", ours, theirs, scale * tied(seed, shape)[0])


@given(
    n=SIDES,
    k=st.integers(1, 4),
    seed=SEEDS,
    kind=st.sampled_from(["int64", "int32", "uint8"]),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    scale=st.sampled_from([1, 1e3]),
)
def test_cross_entropy_of_labels(n, k, seed, kind, smoothing, scale):
    x, y = normal(seed, (n, k), n)
    labels = (np.abs(y) * 10).astype(kind) % k
    compare(
        f"cross_entropy, label smoothing {smoothing}",
        lambda x, y: ops_nn.cross_entropy(x, y, label_smoothing=smoothing),
        lambda x, y: F.cross_entropy(x, y.long(), label_smoothing=smoothing),
        scale * x,
        labels,
    )


@given(n=SIDES, k=st.integers(1, 4), seed=SEEDS, smoothing=st.sampled_from([0.0, 0.1]))
def test_cross_entropy_of_soft_labels(n, k, seed, smoothing):
    x, y = normal(seed, (n, k), (n, k))  # rows of y need not be distributions
    compare(
        f"cross_entropy of soft labels, label smoothing {smoothing}",
        lambda x: ops_nn.cross_entropy(x, y, label_smoothing=smoothing),
        lambda x: F.cross_entropy(x, torch.tensor(y).to(x), label_smoothing=smoothing),
        x,
    )


@given(n=SIDES, k=st.integers(1, 4), seed=SEEDS, scale=st.sampled_from([1, 1e3]))
def test_sigmoid_cross_entropy(n, k, seed, scale):
    x, y = normal(seed, (n, k), (n, k))
    labels = np.abs(y[:, 0] * 10).astype(int) % k
    for name, target, spread in (
        ("labels", labels, np.eye(k)[labels]),
        ("probabilities", np.abs(y), np.abs(y)),
    ):
        compare(
            f"sigmoid_cross_entropy of {name}",
            lambda x, target=target: ops_nn.sigmoid_cross_entropy(x, target),
            lambda x, spread=spread: (
                F.binary_cross_entropy_with_logits(x, torch.tensor(spread).to(x), reduction="sum") / n
            ),
            scale * x,
        )


@pytest.mark.parametrize("name", ["cross_entropy", "sigmoid_cross_entropy"])
@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
def test_a_label_without_a_class_is_an_error(name, labels):
    with pytest.raises(ValueError, match=name):
        getattr(ops_nn, name)(Tensor(np.zeros((2, 3))), np.array(labels))


# Layers with weights


@given(leading=LEADING, inputs=SIDES, outputs=SIDES, seed=SEEDS, bias=st.booleans())
def test_linear(leading, inputs, outputs, seed, bias):
    shapes = [(*leading, inputs), (outputs, inputs), (outputs,)]
    compare("linear", ops_nn.linear, F.linear, *normal(seed, *shapes[: 2 + bias]))


def pairs(low, high):
    """A number for height and width, or one for each."""
    return st.integers(low, high) | st.tuples(*[st.integers(low, high)] * 2)


@st.composite
def windows(draw, max_padding=2):
    """The images' height and width, and a window, stride and padding that fit them."""
    window, stride = draw(pairs(1, 3)), draw(pairs(1, 3))
    kernel = ops_nn.pair(window)
    padding = draw(pairs(0, min(max_padding, *(k // 2 for k in kernel)) if max_padding < 2 else 2))
    sizes = [
        max(1, k - 2 * p) + draw(st.integers(0, 3)) for k, p in zip(kernel, ops_nn.pair(padding))
    ]
    return tuple(sizes), window, stride, padding


@given(
    n=SIDES, groups=SIDES, c=SIDES, o=SIDES, window=windows(), bias=st.booleans(), seed=SEEDS
)
def test_conv2d(n, groups, c, o, window, bias, seed):
    size, kernel, stride, padding = window
    options = {"stride": stride, "padding": padding, "groups": groups}
    shapes = [
        (n, groups * c, *size),
        (groups * o, c, *ops_nn.pair(kernel)),
        (groups * o,),
    ]
    compare(
        f"conv2d {options}",
        lambda *xs: ops_nn.conv2d(*xs, **options),
        lambda *xs: F.conv2d(*xs, **options),
        *normal(seed, *shapes[: 2 + bias]),
    )
