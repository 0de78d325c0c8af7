"""Every op of ``ops_nn.py`` against PyTorch, and the fused ones against their parts.

The parts are the ops of ``ops.py``: what a fused op computes, and its hand-written gradient, must
be what the tape makes of the formula.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from rsam_backends import Stream, to_device, to_host, use_backend
from rsam_ref import ShapeError, Tensor
from rsam_ref.autograd import ops, ops_nn
from tests.helpers.oracle import compare, normal, tied, with_ours

pytestmark = pytest.mark.usefixtures("device")

SEEDS = st.integers(0, 2**16)
SIDES = st.integers(1, 3)
EPS = st.sampled_from([1e-2, 0.1])  # with less, constant rows blow both sides' rounding up
LEADING = hnp.array_shapes(min_dims=0, max_dims=2, max_side=3)


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
    np.testing.assert_array_equal(to_host(value), [0, 0, 0.5, 1, 1])


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
                F.binary_cross_entropy_with_logits(x, torch.tensor(spread).to(x), reduction="sum")
                / n
            ),
            scale * x,
        )


@pytest.mark.parametrize("name", ["cross_entropy", "sigmoid_cross_entropy"])
@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
def test_a_label_without_a_class_is_an_error(name, labels, device):
    """On a device, where looking at the labels would make the host wait, the loss is nan."""
    call = lambda: getattr(ops_nn, name)(Tensor(np.zeros((2, 3))), np.array(labels))
    if device == "numpy":
        with pytest.raises(ValueError, match=name):
            call()
    else:
        assert np.isnan(call().item())
        with use_backend(device, kernels="plain"):
            assert np.isnan(call().item())


# Layers with weights


@given(leading=LEADING, inputs=SIDES, outputs=SIDES, seed=SEEDS, bias=st.booleans())
def test_linear(leading, inputs, outputs, seed, bias):
    shapes = [(*leading, inputs), (outputs, inputs), (outputs,)]
    compare("linear", ops_nn.linear, F.linear, *normal(seed, *shapes[: 2 + bias]))


@st.composite
def windows(draw, pooling=False):
    """Height and width of images; then window, stride and padding that fit them.

    Where both of a pair are equal, it may be given as one number. A pool's padding is at most half
    the window.
    """
    kernel, stride = (draw(st.tuples(SIDES, SIDES)) for _ in range(2))
    padding = tuple(draw(st.integers(0, k // 2 if pooling else 2)) for k in kernel)
    size = tuple(max(1, k - 2 * p) + draw(st.integers(0, 3)) for k, p in zip(kernel, padding))
    shortened = [
        a if a == b and draw(st.booleans()) else (a, b) for a, b in (kernel, stride, padding)
    ]
    return size, *shortened


@given(n=SIDES, groups=SIDES, c=SIDES, o=SIDES, window=windows(), bias=st.booleans(), seed=SEEDS)
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


# Pooling

POOLS = {
    "max_pool2d": (ops_nn.max_pool2d, F.max_pool2d),
    "avg_pool2d": (ops_nn.avg_pool2d, F.avg_pool2d),
}


@pytest.mark.parametrize("name", POOLS)
@given(n=SIDES, c=SIDES, window=windows(pooling=True), seed=SEEDS, touching=st.booleans())
def test_pooling(name, n, c, window, seed, touching):
    ours, theirs = POOLS[name]
    size, kernel, stride, padding = window
    stride = None if touching else stride
    compare(
        f"{name} window {kernel}, stride {stride}, padding {padding}",
        lambda x: ours(x, window=kernel, stride=stride, padding=padding),
        lambda x: theirs(x, kernel, stride, padding),
        *tied(seed, (n, c, *size)),
    )


@given(shape=hnp.array_shapes(min_dims=4, max_dims=4, max_side=4), seed=SEEDS)
def test_global_avg_pool2d(shape, seed):
    theirs = lambda x: F.adaptive_avg_pool2d(x, 1)[..., 0, 0]
    compare("global_avg_pool2d", ops_nn.global_avg_pool2d, theirs, *normal(seed, shape))


# Normalisation


def batch_norm(x, gamma, beta, **options):
    """Batch norm by the statistics of this very batch."""
    mean, var = ops_nn.batch_statistics(x._data)
    return ops_nn.batch_norm(x, gamma, beta, mean=mean, var=var, **options)


@given(n=st.integers(2, 4), c=SIDES, seed=SEEDS, eps=EPS)
def test_batch_norm_and_relu(n, c, seed, eps):
    def ours(x, gamma, beta):
        mean, var = ops_nn.batch_statistics(x._data)
        return ops_nn.batch_norm_relu(x, gamma, beta, mean=mean, var=var, eps=eps)

    def theirs(x, gamma, beta):
        return F.relu(F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps))

    compare("batch_norm_relu", ours, theirs, *normal(seed, (n, c, 3, 2), (c,), (c,)))


@given(
    n=st.integers(2, 4),
    c=SIDES,
    size=st.sampled_from([(), (1, 1), (2, 3)]),
    seed=SEEDS,
    eps=EPS,
)
def test_batch_norm(n, c, size, seed, eps):
    (x,), (gamma, beta, mean, var) = tied(seed, (n, c, *size)), normal(seed, *[(c,)] * 4)
    compare(
        "batch_norm in training",
        lambda *xs: batch_norm(*xs, eps=eps),
        lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps),
        *(x, gamma, beta),
    )
    given = mean, np.abs(var)
    compare(
        "batch_norm by constants",
        lambda x, gamma, beta: ops_nn.batch_norm(
            *(x, gamma, beta),
            **{key: to_device(a, x.dtype) for key, a in zip(("mean", "var"), given)},
            eps=eps,
            constant=True,
        ),
        lambda x, *xs: F.batch_norm(x, *[torch.tensor(a).to(x) for a in given], *xs, eps=eps),
        *(x, gamma, beta),
    )


@given(leading=LEADING, width=st.integers(1, 5), seed=SEEDS, eps=EPS)
def test_layer_norm(leading, width, seed, eps):
    compare(
        f"layer_norm, eps {eps}",
        lambda *xs: ops_nn.layer_norm(*xs, eps=eps),
        lambda x, gamma, beta: F.layer_norm(x, (width,), gamma, beta, eps),
        *tied(seed, (*leading, width)),
        *normal(seed, width, width),
    )


def test_the_default_eps_is_torchs():
    x, gamma, beta = 1e-3 * normal(0, (4, 6, 2, 2))[0], *normal(1, 6, 6)
    compare(
        "batch_norm",
        batch_norm,
        lambda x, g, b: F.batch_norm(x, None, None, g, b, True),
        x,
        gamma,
        beta,
    )
    compare(
        "group_norm",
        lambda *xs: ops_nn.group_norm(*xs, groups=2),
        lambda x, g, b: F.group_norm(x, 2, g, b),
        x,
        gamma,
        beta,
    )
    compare(
        "layer_norm",
        ops_nn.layer_norm,
        lambda x, g, b: F.layer_norm(x, (6,), g, b),
        x[:, :, 0, 0],
        gamma,
        beta,
    )


@given(n=SIDES, groups=SIDES, c=SIDES, size=st.sampled_from([(1, 2), (2, 3)]), seed=SEEDS)
def test_group_norm(n, groups, c, size, seed):
    compare(
        f"group_norm of {groups} groups",
        lambda *xs: ops_nn.group_norm(*xs, groups=groups, eps=1e-2),
        lambda x, gamma, beta: F.group_norm(x, groups, gamma, beta, 1e-2),
        *tied(seed, (n, groups * c, *size)),
        *normal(seed, groups * c, groups * c),
    )


# Attention, dropout, embedding, patches


@given(data=st.data(), leading=LEADING, seed=SEEDS)
def test_attention(data, leading, seed):
    queries, keys, d, e = (data.draw(st.integers(1, 4)) for _ in range(4))
    mask = None
    if data.draw(st.booleans()):
        shape = data.draw(st.sampled_from([(keys,), (queries, keys), (*leading, queries, keys)]))
        mask = data.draw(hnp.arrays(bool, shape))
        mask[..., data.draw(st.integers(0, keys - 1))] = True  # every query sees some key
    masks: tuple = () if mask is None else (mask,)
    compare(
        f"scaled_dot_product_attention, mask {mask}",
        lambda *xs: ops_nn.scaled_dot_product_attention(*xs, *masks),
        lambda *xs: F.scaled_dot_product_attention(  # type: ignore[call-arg]
            *xs, None if mask is None else torch.tensor(mask).expand(*leading, queries, keys)
        ),
        *normal(seed, (*leading, queries, d), (*leading, keys, d), (*leading, keys, e)),
    )


@given(leading=LEADING, tokens=st.integers(1, 4), width=st.integers(1, 4), seed=SEEDS)
def test_self_attention(leading, tokens, width, seed):
    compare(
        "self_attention",
        ops_nn.self_attention,
        lambda qkv: F.scaled_dot_product_attention(*qkv),
        *normal(seed, (3, *leading, tokens, width)),
    )


def test_gradients_of_self_attention_lie_as_its_input_does():
    x = to_device(np.ones((2, 4, 3, 1, 5), "float32"))
    qkv = Tensor(x, requires_grad=True).transpose(2, 0, 3, 1, 4)
    value = ops_nn.self_attention(qkv)
    [vjp] = value.node.vjps
    assert vjp(value.data).strides == qkv._data.strides
    with pytest.raises(ShapeError, match=r"self_attention: shape \(2, 4\); give q, k, v stacked"):
        ops_nn.self_attention(np.ones((2, 4)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout(p):
    x = Tensor(np.full((200, 250), 3.0), requires_grad=True)
    y = ops_nn.dropout(x, p, Stream(1))
    (y * y).sum().backward()
    values = to_host(y.data)
    kept = values != 0
    np.testing.assert_allclose(values[kept], 3 / (1 - p), rtol=1e-12)
    np.testing.assert_allclose(to_host(x.grad), 2 * values / (1 - p) * kept, rtol=1e-12)
    five_sigma = 5 * math.sqrt(p * (1 - p) / x.size)
    assert abs(kept.mean() - (1 - p)) < five_sigma
    assert np.ptp(kept.mean(axis=0)) > 0, "the columns have a mask in common"
    assert np.ptp(kept.mean(axis=1)) > 0, "the rows have a mask in common"
    again, other = (to_host(ops_nn.dropout(x, p, Stream(seed)).data) for seed in (1, 2))
    np.testing.assert_array_equal(again, values)
    assert (other != values).any()
    assert ops_nn.dropout(Tensor([1.0], dtype="float32"), p, Stream(0)).dtype == "float32"


@given(data=st.data(), rows=st.integers(1, 4), width=SIDES, seed=SEEDS)
def test_embedding(data, rows, width, seed):
    indices = data.draw(hnp.arrays(int, LEADING, elements=st.integers(0, rows - 1)))
    theirs = lambda table: F.embedding(torch.tensor(indices), table)
    ours = lambda table: ops_nn.embedding(table, indices)
    compare(f"embedding of {indices.tolist()}", ours, theirs, *normal(seed, (rows, width)))


@given(n=SIDES, c=SIDES, size=SIDES, high=SIDES, wide=SIDES, seed=SEEDS)
def test_patches(n, c, size, high, wide, seed):
    compare(
        f"patches of {size}",
        lambda x: ops_nn.patches(x, size),
        lambda x: F.unfold(x, size, stride=size).transpose(1, 2),
        *normal(seed, (n, c, high * size, wide * size)),
    )


# Fused ops against their parts


def standardised(x, axes, eps=1e-5):
    centred = x - ops.mean(x, axis=axes, keepdims=True)
    return centred / ops.sqrt(ops.mean(centred * centred, axis=axes, keepdims=True) + eps)


def softmax(x, axis=-1):
    e = ops.exp(x - ops.amax(x, axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x, axis=-1):
    shifted = x - ops.amax(x, axis=axis, keepdims=True)
    return shifted - ops.log(ops.exp(shifted).sum(axis=axis, keepdims=True))


def gelu_by_tanh(x):
    return 0.5 * x * (1 + ops.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def group_norm(x, gamma, beta):
    x_hat = standardised(x.reshape(2, 3, -1), -1).reshape(2, 6, 3, 4)
    return x_hat * gamma.reshape(6, 1, 1) + beta.reshape(6, 1, 1)


def attention(q, k, v, mask=None):
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])
    return softmax(scores if mask is None else ops.where(mask, scores, -1e30)) @ v


def convolution(x, weight, bias):
    """A sum over the filter's places of one product each: stride (2, 1), padding (1, 0)."""
    padded = ops.pad(x, widths=((0, 0), (0, 0), (1, 1), (0, 0)))
    out = bias.reshape(2, 1, 1)
    for i in range(3):
        for j in range(2):
            seen = padded[:, :, i : i + 5 : 2, j : j + 4].reshape(2, 3, -1)  # (N, C, Ho*Wo)
            out = out + (weight[:, :, i, j] @ seen).reshape(2, 2, 3, 4)
    return out


LABELS = np.array([2, 0, 3, 1, 3])
ONE_HOT = np.eye(4)[LABELS]
MASK = np.tril(np.ones((4, 5), bool))

COMPOSITIONS = {  # the fused op, its parts, the inputs' shapes
    "softmax": (ops_nn.softmax, softmax, (3, 4, 5)),
    "softmax, axis 1": (lambda x: ops_nn.softmax(x, axis=1), lambda x: softmax(x, 1), (3, 4, 5)),
    "log_softmax": (ops_nn.log_softmax, log_softmax, (3, 4, 5)),
    "cross_entropy": (
        lambda x: ops_nn.cross_entropy(x, LABELS),
        lambda x: -(log_softmax(x) * ONE_HOT.astype(x.dtype)).sum() / 5,
        (5, 4),
    ),
    "sigmoid_cross_entropy": (
        lambda x: ops_nn.sigmoid_cross_entropy(x, LABELS),
        lambda x: (ops.log(1 + ops.exp(x)) - x * ONE_HOT.astype(x.dtype)).sum() / 5,
        (5, 4),
    ),
    "sigmoid": (ops_nn.sigmoid, lambda x: 1 / (1 + ops.exp(-x)), (3, 4)),
    "relu": (ops_nn.relu, lambda x: ops.maximum(x, 0), (3, 4)),
    "gelu by tanh": (lambda x: ops_nn.gelu(x, approximate=True), gelu_by_tanh, (3, 4)),
    "linear": (ops_nn.linear, lambda x, w, b: x @ w.transpose() + b, (2, 3, 4), (5, 4), (5,)),
    "conv2d": (
        lambda *xs: ops_nn.conv2d(*xs, stride=(2, 1), padding=(1, 0)),
        convolution,
        (2, 3, 5, 5),
        (2, 3, 3, 2),
        (2,),
    ),
    "global_avg_pool2d": (
        ops_nn.global_avg_pool2d,
        lambda x: ops.mean(x, axis=(2, 3)),
        (2, 3, 4, 5),
    ),
    "layer_norm": (
        ops_nn.layer_norm,
        lambda x, gamma, beta: standardised(x, -1) * gamma + beta,
        (3, 4, 5),
        (5,),
        (5,),
    ),
    "batch_norm": (
        batch_norm,
        lambda x, gamma, beta: (
            standardised(x, (0, 2, 3)) * gamma.reshape(3, 1, 1) + beta.reshape(3, 1, 1)
        ),
        (4, 3, 2, 5),
        (3,),
        (3,),
    ),
    "group_norm": (
        lambda *xs: ops_nn.group_norm(*xs, groups=3),
        group_norm,
        (2, 6, 3, 4),
        (6,),
        (6,),
    ),
    "attention": (
        ops_nn.scaled_dot_product_attention,
        attention,
        (2, 3, 4, 6),
        (2, 3, 5, 6),
        (2, 3, 5, 7),
    ),
    "attention with a mask": (
        lambda *xs: ops_nn.scaled_dot_product_attention(*xs, MASK),
        lambda *xs: attention(*xs, mask=MASK),
        (2, 3, 4, 6),
        (2, 3, 5, 6),
        (2, 3, 5, 7),
    ),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_fused_ops_equal_their_parts(name):
    fused, parts, *shapes = COMPOSITIONS[name]
    compare(f"{name} against its parts", fused, parts, *normal(1, *shapes), by=with_ours)


# What does not fit is refused, not broadcast


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("linear", lambda bias: ops_nn.linear(np.ones((2, 3)), np.ones((4, 3)), bias)),
        ("conv2d", lambda bias: ops_nn.conv2d(np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), bias)),
        (
            "batch_norm",
            lambda beta: ops_nn.batch_norm(
                np.ones((2, 4)), np.ones(4), beta, mean=np.ones(4), var=np.ones(4)
            ),
        ),
        ("layer_norm", lambda beta: ops_nn.layer_norm(np.ones((2, 4)), np.ones(4), beta)),
        (
            "group_norm",
            lambda beta: ops_nn.group_norm(np.ones((2, 4, 3, 3)), np.ones(4), beta, groups=2),
        ),
    ],
)
def test_a_bias_of_another_width_is_an_error(name, call):
    """One that would broadcast, too: its gradient would have the wrong shape."""
    with pytest.raises(ShapeError, match=name):
        call(Tensor([1.0], requires_grad=True))


def test_a_mask_of_numbers_is_an_error():
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="True where a query may look"):
        ops_nn.scaled_dot_product_attention(x, x, x, np.array([[0, -np.inf], [0, 0]]))


def test_a_bias_may_be_left_out():
    x, w = normal(0, (4, 3), (2, 3))
    compare("linear", lambda x, w: ops_nn.linear(x, w, None), F.linear, x, w)


def test_a_mask_does_not_add_axes_to_the_scores():
    q, k, v = (Tensor(x, requires_grad=True) for x in normal(0, (2, 4), (3, 4), (3, 4)))
    with pytest.raises(ShapeError, match="scaled_dot_product_attention"):
        ops_nn.scaled_dot_product_attention(q, k, v, np.ones((5, 2, 3), bool))


NO_GRADIENT = {  # an op, and its input for which it has no derivative
    "where": (ops.where, np.ones(3), np.ones(3), np.ones(3)),
    "cross_entropy": (lambda t, x: ops_nn.cross_entropy(x, t), np.ones((2, 3)), np.ones((2, 3))),
    "sigmoid_cross_entropy": (
        lambda t, x: ops_nn.sigmoid_cross_entropy(x, t),
        np.ones((2, 3)),
        np.ones((2, 3)),
    ),
}


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_a_gradient_that_an_op_has_not_is_an_error(name):
    """Never a silent zero, or NaN."""
    f, *inputs = NO_GRADIENT[name]
    first, *others = (Tensor(x, requires_grad=True) for x in inputs)
    with pytest.raises((TypeError, RuntimeError), match=name):
        f(first, *others).sum().backward()


def test_windows_strides_and_paddings_that_make_no_sense():
    x, filters = np.ones((1, 2, 4, 4)), np.ones((2, 2, 3, 3))
    for options in ({"stride": 0}, {"stride": -1}, {"padding": -1}):
        with pytest.raises(ShapeError, match=r"conv2d: a window of .* at least 1"):
            ops_nn.conv2d(x, filters, **options)
    for name in ("max_pool2d", "avg_pool2d"):
        for wrong in ({"stride": 0}, {"padding": (0, -1)}, {"window": 0}):
            with pytest.raises(ShapeError, match=rf"{name}: a window of .* at least 1"):
                getattr(ops_nn, name)(x, **{"window": 2, **wrong})
        with pytest.raises(ShapeError, match="pad by half a window at most"):
            getattr(ops_nn, name)(x, window=2, padding=2)
