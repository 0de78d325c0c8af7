"""Ops at their limits, beside PyTorch: masked classes and keys, nan, nothing at all, scalars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from rsam_ref import Tensor, nn, no_grad, use_backend
from rsam_ref.autograd import ops, ops_nn
from rsam_ref.autograd.errors import ShapeError

INF, NAN = np.inf, np.nan


def ours(f, *inputs):
    """The value, and the gradients of its sum."""
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    value = f(*tensors)
    ops.sum(value).backward()
    return value.data, [t.grad for t in tensors]


def theirs(f, *inputs):
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    value = f(*tensors)
    value.sum().backward()
    return value.detach().numpy(), [t.grad.numpy() for t in tensors]


def assert_alike(ours, theirs, rtol=1e-12):
    np.testing.assert_allclose(ours[0], theirs[0], rtol=rtol)
    for a, b in zip(ours[1], theirs[1]):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-300)


# Masked classes

MASKED = np.array([[0.0, -INF, 2.0], [0.0, 1.0, -INF]])


def test_a_class_masked_out_is_no_part_of_the_cross_entropy():
    labels = np.array([0, 1])
    assert_alike(
        ours(lambda x: ops_nn.cross_entropy(x, labels), MASKED),
        theirs(lambda x: F.cross_entropy(x, torch.tensor(labels)), MASKED),
    )


def test_neither_where_targets_are_probabilities():
    targets = np.array([[0.3, 0.0, 0.7], [1.0, 0.0, 0.0]])
    value, [gradient] = ours(lambda x: ops_nn.cross_entropy(x, targets), MASKED)
    open_ = np.where(np.isinf(MASKED), -1e3, MASKED)  # as good as masked, and finite
    finite, [as_finite] = ours(lambda x: ops_nn.cross_entropy(x, targets), open_)
    assert value == pytest.approx(finite)
    np.testing.assert_allclose(gradient, as_finite, atol=1e-15)


def test_a_label_that_is_masked_out_costs_without_end():
    value, _ = ours(lambda x: ops_nn.cross_entropy(x, np.array([1, 0])), MASKED)
    assert value == INF
    smoothed, _ = ours(
        lambda x: ops_nn.cross_entropy(x, np.array([0, 0]), label_smoothing=0.1), MASKED
    )
    assert smoothed == INF


@pytest.mark.filterwarnings("ignore:overflow encountered in subtract")
def test_logits_near_the_largest_float_do_not_overflow_into_nan():
    logits = np.array([[3e38, -3e38]], np.float32)
    value, [gradient] = ours(lambda x: ops_nn.cross_entropy(x, np.array([0])), logits)
    assert value == 0
    assert gradient.tolist() == [[0, 0]]


def test_the_sigmoid_form_takes_masked_classes_too():
    targets = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    value, [gradient] = ours(lambda x: ops_nn.sigmoid_cross_entropy(x, targets), MASKED)
    expected, [as_finite] = ours(
        lambda x: ops_nn.sigmoid_cross_entropy(x, targets), np.where(np.isinf(MASKED), -1e3, MASKED)
    )
    assert value == pytest.approx(expected)
    np.testing.assert_allclose(gradient, as_finite, atol=1e-15)


# Attention


def test_a_query_that_may_look_at_nothing_gets_zero():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 3, 4)) for _ in range(3))
    mask = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]], bool)
    assert_alike(
        ours(lambda *x: ops_nn.scaled_dot_product_attention(*x, mask), q, k, v),
        theirs(
            lambda *x: F.scaled_dot_product_attention(*x, attn_mask=torch.tensor(mask)), q, k, v
        ),
        rtol=1e-9,
    )
    value, _ = ours(lambda *x: ops_nn.scaled_dot_product_attention(*x, mask), q, k, v)
    assert value[:, 1].tolist() == [[0] * 4] * 2


def test_attention_over_no_keys_is_zero():
    q, nothing = np.ones((1, 2, 3)), np.ones((1, 0, 3))
    mask = np.ones((1, 2, 0), bool)
    for masked in (None, mask):
        value, _ = ours(
            lambda *x, m=masked: ops_nn.scaled_dot_product_attention(*x, m), q, nothing, nothing
        )
        assert value.tolist() == np.zeros((1, 2, 3)).tolist()


def test_softmax_over_nothing_is_nothing():
    for f in (ops_nn.softmax, ops_nn.log_softmax):
        assert ours(f, np.zeros((2, 0)))[0].shape == (2, 0)


# Batch norm


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_batch_norm_refuses_one_value_a_channel(shape):
    layer: Any = nn.BatchNorm2d(3).build()
    with pytest.raises(ShapeError, match="one value of each channel"):
        layer(np.ones(shape, np.float32))
    assert layer.running_var.tolist() == [1, 1, 1]
    layer.eval()
    assert layer(np.ones(shape, np.float32)).shape == shape


def test_an_empty_batch_moves_no_statistics():
    layer: Any = nn.BatchNorm2d(3).build()
    assert layer(np.ones((0, 3, 2, 2), np.float32)).shape == (0, 3, 2, 2)
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert layer.running_var.tolist() == [1, 1, 1]


# Indices


@pytest.mark.parametrize("wrong", [[3], [-1], [0, 5], [[-3]]])
def test_embedding_refuses_numbers_that_have_no_row(wrong):
    with pytest.raises(IndexError, match=r"whole numbers 0 \.\. 2"):
        ops_nn.embedding(Tensor(np.ones((3, 2))), np.array(wrong))


def test_embedding_refuses_fractions():
    with pytest.raises(IndexError, match="whole numbers"):
        ops_nn.embedding(Tensor(np.ones((3, 2))), np.array([0.5]))


def test_embedding_where_nobody_looks_gives_nan(monkeypatch):
    monkeypatch.setattr(ops_nn, "all_within", lambda *_: None)  # as on a device
    rows = ops_nn.embedding(Tensor(np.ones((3, 2))), np.array([0, -1, 3])).data
    assert np.isnan(rows).tolist() == [[False] * 2, [True] * 2, [True] * 2]


# What is not a number stays visible

PAIRS = np.array([NAN, 1.0, NAN, 2.0]), np.array([1.0, NAN, NAN, 2.0])


@pytest.mark.parametrize("size", [1, 10**6])
def test_a_nan_passes_relu_and_its_gradient(size):
    x = np.array([NAN, -1.0, 0.0, 2.0] * size)
    value, [gradient] = ours(ops_nn.relu, x)
    assert np.isnan(value[:4]).tolist() == [True, False, False, False]
    assert gradient[:4].tolist() == [1, 0, 0, 1] == theirs(torch.relu, x)[1][0][:4].tolist()


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_nan_passes_the_larger_and_the_smaller(name):
    assert_alike(ours(getattr(ops, name), *PAIRS), theirs(getattr(torch, name), *PAIRS))


@pytest.mark.parametrize("padding", [0, 1])
def test_a_nan_passes_max_pooling(padding):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    x[0, 1, 2, 1] = NAN
    assert_alike(
        ours(lambda x: ops_nn.max_pool2d(x, window=2, padding=padding), x),
        theirs(lambda x: F.max_pool2d(x, 2, padding=padding), x),
    )


@pytest.mark.parametrize("kernels", [None, "plain"])
@pytest.mark.parametrize("stride", [2, 1])
def test_a_window_of_minus_infinity_gives_the_padding_no_gradient(kernels, stride):
    x = np.full((1, 2, 5, 5), -INF)
    x[0, 0, 1, 1] = 2
    with use_backend("numpy", kernels=kernels):
        assert_alike(
            ours(lambda x: ops_nn.max_pool2d(x, window=3, stride=stride, padding=1), x),
            theirs(lambda x: F.max_pool2d(x, 3, stride, 1), x),
        )


# Labels that are left out


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("left_out", [-100, 2, 255])
def test_rows_with_the_label_that_is_left_out_cost_nothing(left_out, smoothing):
    logits = np.random.default_rng(0).normal(size=(6, 4))
    labels = np.array([0, left_out, 3, left_out, 1, 1])
    mine = {"label_smoothing": smoothing, "ignore_index": left_out}
    assert_alike(
        ours(lambda x: ops_nn.cross_entropy(x, labels, **mine), logits),
        theirs(lambda x: F.cross_entropy(x, torch.tensor(labels), **mine), logits),
    )
    assert ops_nn.cross_entropy(logits.astype(np.float32), labels, **mine).dtype == np.float32


@pytest.mark.filterwarnings("ignore:invalid value encountered", "ignore:divide by zero")
def test_the_mean_over_no_label_is_nan_as_in_torch():
    labels = np.array([-1, -1])
    value, _ = ours(lambda x: ops_nn.cross_entropy(x, labels, ignore_index=-1), np.ones((2, 3)))
    assert np.isnan(value)


def test_what_is_left_out_is_a_label():
    with pytest.raises(ShapeError, match="ignore_index 0 is for whole-number labels"):
        ops_nn.cross_entropy(np.ones((2, 3)), np.ones((2, 3)), ignore_index=0)
    with pytest.raises(ValueError, match="none of the 3 classes"):
        ops_nn.cross_entropy(np.ones((2, 3)), np.array([7, -1]), ignore_index=-1)


# Nothing at all


def test_pooling_of_no_images():
    for pool in (ops_nn.max_pool2d, ops_nn.avg_pool2d):
        value, [gradient] = ours(lambda x, p=pool: p(x, window=2), np.zeros((0, 3, 4, 4)))
        assert value.shape == (0, 3, 2, 2)
        assert gradient.shape == (0, 3, 4, 4)


@pytest.mark.parametrize("name", ["mean", "var"])
def test_means_of_no_rows(name):
    assert ours(lambda x: getattr(ops, name)(x, axis=1), np.zeros((0, 3)))[0].shape == (0,)


# Digits


def test_sigmoid_has_its_digits_far_below_zero():
    x = np.array([-80.0, -20.0, -10.0, 0.0, 10.0, 90.0], np.float32)
    assert_alike(ours(ops_nn.sigmoid, x), theirs(torch.sigmoid, x), rtol=1e-6)
    assert np.isnan(ours(ops_nn.sigmoid, np.array([NAN]))[0])


def test_the_sigmoid_forms_gradient_has_its_digits_far_below_zero():
    logits, targets = np.array([[-20.0]], np.float32), np.array([[0.0]], np.float32)
    _, [gradient] = ours(lambda x: ops_nn.sigmoid_cross_entropy(x, targets), logits)
    assert gradient[0, 0] == pytest.approx(np.exp(-20), rel=1e-6)


# Scalars keep the arrays' type

X = np.ones((2, 3), np.float32)
SCALARS = {
    "a float": 0.5,
    "np.float64": np.float64(0.5),
    "np.float32": np.float32(0.5),
    "np.int64": np.int64(2),
    "an array without axes": np.array(0.5),
    "a mean": np.ones(3).mean(),
    "a tensor": Tensor(0.5),
    "whole numbers": np.arange(3),
    "truths": np.ones(3, bool),
}


@pytest.mark.parametrize("scalar", SCALARS)
@pytest.mark.parametrize(
    "f",
    [
        lambda x, s: x * s,
        lambda x, s: s * x,
        lambda x, s: x + s,
        lambda x, s: s - x,
        lambda x, s: x / (s + 1),
        ops.maximum,
        lambda x, s: ops.minimum(s, x),
        lambda x, s: ops.where(X > 0, x, s),
    ],
)
def test_a_scalar_leaves_float32_as_it_is(scalar, f):
    x = Tensor(X, requires_grad=True)
    y = f(x, SCALARS[scalar])
    assert y.dtype == np.float32
    y.sum().backward()
    assert x.grad.dtype == np.float32


@pytest.mark.parametrize("exponent", [2, np.int64(2), np.float64(2), np.float32(2)])
def test_so_does_an_exponent(exponent):
    assert (Tensor(X) ** exponent).dtype == np.float32


def test_two_arrays_of_different_types_are_widened_as_in_numpy():
    assert (Tensor(X) * np.ones(3)).dtype == np.float64
    assert (Tensor(X[0, 0]) * np.float64(2)).dtype == np.float64
    assert (Tensor(np.ones(2)) * Tensor(np.float32(2))).dtype == np.float64


def test_the_gradient_at_a_scalar_has_its_own_type():
    scale = Tensor(0.5, requires_grad=True)
    (Tensor(X) * scale).sum().backward()
    assert scale.grad.dtype == np.float64
    assert scale.grad == 6


def test_whole_numbers_stay_whole_among_themselves():
    with no_grad():
        assert (Tensor([1, 2]) * 3).dtype.kind == "i"
        assert (Tensor([1, 2]) + Tensor(3)).dtype.kind == "i"
