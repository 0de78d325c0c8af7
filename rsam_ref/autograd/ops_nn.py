"""The ops of neural networks, each in the fewest clear lines: these definitions say what is meant.

A backend may run a faster kernel of the same name; a property test holds it to the definition.
Images are (N, C, H, W): batch, channels, height, width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rsam_backends import Stream, all_within, erf, replaceable, sliding_windows, xp
from rsam_backends.base import Array, Result
from rsam_backends.switch import in_force
from rsam_backends.windows import Pair, pair
from rsam_ref.autograd.errors import ShapeError
from rsam_ref.autograd.op import op
from rsam_ref.autograd.ops import add, getitem, mul, reshape, transpose, where
from rsam_ref.autograd.tensor import Tensor

# Activations


@op
def relu(x: Array) -> Result:
    """max(x, 0); at 0 the gradient is 0, at nan it stays what it is."""
    value = xp.maximum(x, 0)
    return value, (lambda g: xp.where(value != 0, g, 0),)


@op
def sigmoid(x: Array) -> Result:
    """1 / (1 + exp(-x)), so written that it overflows nowhere and has all its digits below 0."""
    value = _sigmoid(x)
    return value, (lambda g: g * (value * (1 - value)),)


def _sigmoid(x: Array) -> Array:
    e = xp.exp(-xp.abs(x))
    return xp.where(x < 0, e, 1) / (1 + e)


@op
def gelu(x: Array, *, approximate: bool = False) -> Result:
    """x * P(Z <= x) for a standard normal Z (Hendrycks and Gimpel 2016), exact or by tanh."""
    if not approximate:
        below = 0.5 * (1 + erf(x * math.sqrt(0.5)))  # P(Z <= x)

        def vjp(g: Array) -> Array:
            density = xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
            return g * (below + x * density)
    else:
        c = math.sqrt(2 / math.pi)
        t = xp.tanh(c * (x + 0.044715 * x * x * x))
        below = 0.5 * (1 + t)

        def vjp(g: Array) -> Array:
            slope = 0.5 * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)  # d below / dx
            return g * (below + x * slope)

    return x * below, (vjp,)


# Softmax and losses

TARGETS = "give a whole number from 0 on for every class, fewer than the logits' columns"


def _softmax(x: Array, axis: int) -> Array:
    if not x.shape[axis]:
        return x
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))  # without the shift exp overflows at 89
    return e / xp.sum(e, axis=axis, keepdims=True)


def _softmax_vjp(g: Array, p: Array, axis: int) -> Array:
    return p * (g - xp.sum(g * p, axis=axis, keepdims=True))


def _log_softmax(x: Array, axis: int) -> Array:
    if not x.shape[axis]:
        return x
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


@op
def softmax(x: Array, *, axis: int = -1) -> Result:
    """exp(x) / sum(exp(x)) along an axis."""
    p = _softmax(x, axis)
    return p, (lambda g: _softmax_vjp(g, p, axis),)


@op
def log_softmax(x: Array, *, axis: int = -1) -> Result:
    """log(softmax(x)) along an axis, right where softmax itself would be 0."""
    value = _log_softmax(x, axis)
    return value, (lambda g: g - xp.exp(value) * xp.sum(g, axis=axis, keepdims=True),)


def _target_distribution(name: str, logits: Array, targets: Array) -> Array:
    """Targets as one distribution a row: whole-number labels (N,) become one-hot rows (N, K)."""
    n, k = logits.shape if logits.ndim == 2 else (-1, -1)
    if targets.shape == (n,) and xp.isdtype(targets.dtype, "integral"):
        one_hot = xp.asarray(targets[:, None] == xp.arange(k), dtype=logits.dtype)
        within = all_within(targets, 0, k - 1)
        if within is None:  # looking would make the host wait: a wrong label makes its loss nan
            right = (targets >= 0) & (targets < k)
            return xp.where(right[:, None], one_hot, math.nan)
        if not within:
            raise ValueError(f"a label is none of the {k} classes 0 .. {k - 1}")
        return one_hot
    if targets.shape == (n, k) and xp.isdtype(targets.dtype, "real floating"):
        return xp.asarray(targets, dtype=logits.dtype)
    raise ShapeError(
        f"{name}: logits of shape {logits.shape} and targets of shape {targets.shape} "
        f"({targets.dtype}) do not fit: give logits (N, K) with whole-number labels (N,) or float "
        "probabilities (N, K)"
    )


def _counted(targets: Array, ignore_index: int) -> Array:
    """Which rows have another label than this one (N,)."""
    if targets.ndim != 1 or not xp.isdtype(targets.dtype, "integral"):
        raise ShapeError(
            f"cross_entropy: ignore_index {ignore_index} is for whole-number labels (N,), not for "
            f"targets of shape {targets.shape} ({targets.dtype})"
        )
    return targets != ignore_index


def _weighed(target: Array, x: Array) -> Array:
    """target * x; 0 where the target is 0, though x may be infinite there: a class masked out."""
    return target * xp.where(target == 0, 0, x)


@op(constants=(1,), remedy=TARGETS)
def cross_entropy(
    logits: Array,
    targets: Array,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> Result:
    """The mean over the batch of -sum_k target_k log softmax(logits)_k.

    Targets are labels (N,) or probabilities (N, K). Label smoothing s mixes them with the uniform
    distribution: (1 - s) target + s / K (Szegedy et al. 2016). Rows with the label ``ignore_index``
    cost nothing and are not counted; where all are such the mean is nan.
    """
    n = logits.shape[0]
    if ignore_index is not None:
        counted = _counted(targets, ignore_index)
        targets = xp.where(counted, targets, 0)
        counted = xp.asarray(counted, dtype=logits.dtype)
        n = xp.sum(counted)
    target = _target_distribution("cross_entropy", logits, targets)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / logits.shape[1]
    if ignore_index is not None:
        target = target * counted[:, None]
    log_p = _log_softmax(logits, axis=1)

    def vjp(g: Array) -> Array:
        # Rows of targets need not sum to 1, hence the sum before the probabilities.
        return (xp.exp(log_p) * xp.sum(target, axis=1, keepdims=True) - target) * (g / n)

    return -xp.sum(_weighed(target, log_p)) / n, (vjp, None)


@op(constants=(1,), remedy=TARGETS)
def sigmoid_cross_entropy(logits: Array, targets: Array) -> Result:
    """Every class a yes-or-no question: summed over the classes, averaged over the batch.

    -sum_k target_k log s_k + (1 - target_k) log(1 - s_k) with s = sigmoid(logits), written as
    ``max(x, 0) - x * target + log(1 + exp(-|x|))``, which overflows nowhere.
    """
    target = _target_distribution("sigmoid_cross_entropy", logits, targets)
    n = logits.shape[0]
    losses = xp.maximum(logits, 0) - _weighed(target, logits) + xp.log1p(xp.exp(-xp.abs(logits)))

    def vjp(g: Array) -> Array:
        return (_sigmoid(logits) - target) * (g / n)

    return xp.sum(losses) / n, (vjp, None)


# Layers with weights


@op(alike=(0, 1))
def linear(x: Array, weight: Array, bias: Array | None = None) -> Result:
    """``x @ weight.T + bias``: x (..., in), weight (out, in), bias (out,)."""
    _check_bias("linear", bias, weight)
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: inputs of shape {x.shape} do not fit a weight of shape {weight.shape}: the "
            "last axis of the input must be the weight's last (out, in); flatten the input, or "
            "build the layer for that many inputs"
        )
    rows = xp.reshape(x, (-1, x.shape[-1]))  # (rows, in)
    value = rows @ weight.T
    if bias is not None:
        value += bias
    shape, out = x.shape, weight.shape[0]
    return xp.reshape(value, (*shape[:-1], out)), (
        lambda g: xp.reshape(xp.reshape(g, (-1, out)) @ weight, shape),
        lambda g: xp.reshape(g, (-1, out)).T @ rows,
        lambda g: xp.sum(xp.reshape(g, (-1, out)), axis=0),
    )


def _check_bias(name: str, bias: Array | None, weight: Array) -> None:
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"{name}: a bias of shape {bias.shape} does not fit a weight of shape {weight.shape}; "
            f"give one of shape {weight.shape[:1]}"
        )


def _add_windows(
    windows: Array, shape: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
) -> Array:
    """Images of ``shape`` (N, C, H, W): windows (N, C, Ho, Wo, kH, kW) put back and summed."""
    n, c, h, w = shape
    (ph, pw), (sh, sw) = padding, stride
    ho, wo, kh, kw = windows.shape[2:]
    images = xp.zeros((n, c, h + 2 * ph, w + 2 * pw), dtype=windows.dtype)
    for i in range(kh):
        for j in range(kw):
            images[:, :, i : i + sh * ho : sh, j : j + sw * wo : sw] += windows[..., i, j]
    return images[:, :, ph : ph + h, pw : pw + w]


def _pad_images(x: Array, padding: tuple[int, int], value: float = 0.0) -> Array:
    ph, pw = padding
    if not (ph or pw):
        return x
    n, c, h, w = x.shape
    padded = xp.full((n, c, h + 2 * ph, w + 2 * pw), value, dtype=x.dtype)
    padded[:, :, ph : ph + h, pw : pw + w] = x
    return padded


def _check_windows(
    name: str, window: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    given = f"{name}: a window of {window}, a stride of {stride} and a padding of {padding}"
    if min(*window, *stride) < 1 or min(padding) < 0:
        raise ShapeError(f"{given}: windows and strides are at least 1, paddings at least 0")
    if name != "conv2d" and any(2 * p > k for p, k in zip(padding, window)):
        raise ShapeError(f"{given}: pad by half a window at most, or some windows hold no pixel")


def _windows(x: Array, window: tuple[int, int], stride: tuple[int, int], name: str) -> Array:
    if x.ndim != 4 or x.shape[2] < window[0] or x.shape[3] < window[1]:
        raise ShapeError(
            f"{name}: a window of {window} does not fit images of (padded) shape {x.shape}: give "
            "images (N, C, H, W) at least as large as the window, or more padding"
        )
    return sliding_windows(x, window, stride)


@op(alike=(0, 1))
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    groups: int = 1,
) -> Result:
    """Images (N, C, H, W) cross-correlated with filters (O, C / groups, kH, kW), plus bias (O,).

    Every window becomes a row, every filter a column, the convolution one matrix product ::

        windows (N Ho Wo, C kH kW)  @  filters (C kH kW, O)  =  value (N Ho Wo, O)

    Channels and filters are split into ``groups`` that do not see each other: G such products.
    """
    stride, padding = pair(stride), pair(padding)
    _check_bias("conv2d", bias, weight)
    if (
        x.ndim != 4
        or weight.ndim != 4
        or x.shape[1] != weight.shape[1] * groups
        or (weight.shape[0] % groups)
    ):
        raise ShapeError(
            f"conv2d: images {x.shape} and filters {weight.shape} in {groups} group(s) do not fit: "
            "give images (N, C, H, W), filters (O, C / groups, kH, kW), and O divisible by groups"
        )
    _check_windows("conv2d", weight.shape[2:], stride, padding)
    padded = _pad_images(x, padding)
    shape = x.shape
    o, c, kh, kw = weight.shape
    windows = _windows(padded, (kh, kw), stride, "conv2d")  # (N, G*C, Ho, Wo, kH, kW), a view
    n, _, ho, wo, _, _ = windows.shape

    # windows (N, G*C, Ho, Wo, kH, kW) <-> rows (G, N*Ho*Wo, C*kH*kW); copied when asked, not kept
    def windows_as_rows() -> Array:
        grouped = xp.reshape(windows, (n, groups, c, ho, wo, kh, kw))
        by_group = xp.permute_dims(grouped, (1, 0, 3, 4, 2, 5, 6))
        return xp.reshape(by_group, (groups, n * ho * wo, c * kh * kw))

    def rows_as_windows(rows: Array) -> Array:
        grouped = xp.reshape(rows, (groups, n, ho, wo, c, kh, kw))
        by_image = xp.permute_dims(grouped, (1, 0, 4, 2, 3, 5, 6))
        return xp.reshape(by_image, (n, groups * c, ho, wo, kh, kw))

    # images (N, O, Ho, Wo) <-> rows (G, N*Ho*Wo, O/G)
    def images_as_rows(images: Array) -> Array:
        grouped = xp.reshape(images, (n, groups, o // groups, ho, wo))
        by_group = xp.permute_dims(grouped, (1, 0, 3, 4, 2))
        return xp.reshape(by_group, (groups, n * ho * wo, o // groups))

    def rows_as_images(rows: Array) -> Array:
        grouped = xp.reshape(rows, (groups, n, ho, wo, o // groups))
        return xp.reshape(xp.permute_dims(grouped, (1, 0, 4, 2, 3)), (n, o, ho, wo))

    filters = xp.reshape(weight, (groups, o // groups, c * kh * kw))
    value = rows_as_images(windows_as_rows() @ filters.mT)
    if bias is not None:
        value += bias[:, None, None]

    def vjp_x(g: Array) -> Array:
        back = rows_as_windows(images_as_rows(g) @ filters)
        return _add_windows(back, shape, stride, padding)

    def vjp_weight(g: Array) -> Array:
        return xp.reshape(images_as_rows(g).mT @ windows_as_rows(), (o, c, kh, kw))

    return value, (vjp_x, vjp_weight, lambda g: xp.sum(g, axis=(0, 2, 3)))


# Pooling


@op
def max_pool2d(
    x: Array, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Result:
    """The largest value of every window; of equal ones the first takes the gradient.

    The padding is -inf, and takes none.
    """
    return pool_at(x, None, window=window, stride=stride, padding=padding)


def pool_at(
    x: Array,
    places: Array | None,
    *,
    window: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
) -> Result:
    """Of every window the value at ``places`` (N, C, Ho, Wo, 1), or its largest for None."""
    views, window, stride, padding = _pool_windows("max_pool2d", x, window, stride, padding)
    flat = xp.reshape(views, (*views.shape[:4], window[0] * window[1]))  # (N, C, Ho, Wo, kH*kW)
    if places is None:
        places = _largest(x, flat, window, stride, padding)
    value = xp.take_along_axis(flat, places, axis=-1)[..., 0]
    shape, size = x.shape, flat.shape[-1]

    def vjp(g: Array) -> Array:
        spread = xp.where(places == xp.arange(size), g[..., None], 0)
        return _add_windows(xp.reshape(spread, (*g.shape, *window)), shape, stride, padding)

    return value, (vjp,)


def pool_places(
    x: Array, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Array:
    """Where in every window the largest value is: (N, C, Ho, Wo, 1)."""
    views, window, stride, padding = _pool_windows("max_pool2d", x, window, stride, padding)
    flat = xp.reshape(views, (*views.shape[:4], window[0] * window[1]))
    return _largest(x, flat, window, stride, padding)


def _largest(x: Array, flat: Array, window: Pair, stride: Pair, padding: Pair) -> Array:
    """Where each window of ``flat`` is largest; where all of it is -inf, inside of the padding."""
    places = xp.argmax(flat, axis=-1)[..., None]
    if not any(padding):
        return places
    pixels = _pad_images(xp.ones((1, 1, *x.shape[2:]), dtype=x.dtype), padding)
    views = _windows(pixels, window, stride, "max_pool2d")
    inside = xp.reshape(views, (1, 1, *flat.shape[2:]))
    nothing = xp.take_along_axis(flat, places, axis=-1) == -math.inf
    return xp.where(nothing, xp.argmax(inside, axis=-1)[..., None], places)


def _pool_windows(
    name: str,
    x: Array,
    window: int | Pair,
    stride: int | Pair | None,
    padding: int | Pair,
    fill: float = -math.inf,
) -> tuple[Array, Pair, Pair, Pair]:
    """Views of every window (N, C, Ho, Wo, kH, kW), and the three as pairs."""
    window, padding = pair(window), pair(padding)
    stride = window if stride is None else pair(stride)
    _check_windows(name, window, stride, padding)
    views = _windows(_pad_images(x, padding, fill), window, stride, name)
    return views, window, stride, padding


@op
def avg_pool2d(
    x: Array, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Result:
    """The mean of every window; padding counts as zeros."""
    views, window, stride, padding = _pool_windows("avg_pool2d", x, window, stride, padding, 0.0)
    shape, places = x.shape, window[0] * window[1]

    def vjp(g: Array) -> Array:
        spread = xp.broadcast_to((g / places)[..., None, None], (*g.shape, *window))
        return _add_windows(spread, shape, stride, padding)

    return xp.mean(views, axis=(4, 5)), (vjp,)


@op
def global_avg_pool2d(x: Array) -> Result:
    """The mean over height and width: (N, C, H, W) -> (N, C)."""
    if x.ndim != 4:
        raise ShapeError(f"global_avg_pool2d: shape {x.shape} is no image; give (N, C, H, W)")
    shape = x.shape
    places = shape[2] * shape[3]
    value = xp.mean(x, axis=(2, 3))
    return value, (lambda g: xp.broadcast_to((g / places)[:, :, None, None], shape),)


# Normalisation: x_hat = (x - mean) / sqrt(var + eps), then a scale gamma and a shift beta


def _normalised_vjp(
    g: Array,
    x_hat: Array,
    inverse_std: Array,
    axes: tuple[int, ...],
    across: Callable[[Array], Array] | None = None,
) -> Array:
    """The gradient at x, from ``g`` at x_hat, where mean and variance are taken over ``axes``.

    (g - mean(g) - mean(g x_hat) x_hat) / std

    x_hat stays as it is where x is shifted, or stretched from its mean. So the gradient at x has no
    part along 1, nor along x_hat: what g has of them is taken off.
    """
    along_one = xp.mean(g, axis=axes, keepdims=True)
    along_x_hat = xp.mean(g * x_hat, axis=axes, keepdims=True)
    if across is not None:  # the means are over all shards of the batch
        along_one, along_x_hat = across(xp.stack([along_one, along_x_hat]))
    return inverse_std * (g - along_one - along_x_hat * x_hat)


@replaceable
def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of every channel of (N, C, H, W) or (N, C), over all but axis 1."""
    axes = (0, *range(2, x.ndim))
    return xp.mean(x, axis=axes), xp.var(x, axis=axes)


@op
def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    mean: Array,
    var: Array,
    eps: float = 1e-5,
    constant: bool = False,
    across: Callable[[Array], Array] | None = None,
) -> Result:
    """Every channel of (N, C, H, W) or (N, C) normalised (Ioffe and Szegedy 2015).

    ``mean`` and ``var`` (C,) are those of this very batch, from `batch_statistics`, and then the
    gradient flows through them; or they are ``constant`` (the running ones, in evaluation). Where
    they are those of several shards of the batch, ``across`` makes the mean over all of them from
    the mean over this one.
    """
    _check_bias("batch_norm", beta, gamma)
    if x.ndim not in (2, 4) or x.shape[1:2] != gamma.shape:
        raise ShapeError(
            f"batch_norm: inputs of shape {x.shape} do not fit {gamma.shape[0]} channels: give "
            "(N, C, H, W) or (N, C) with as many channels as the layer has"
        )
    axes = (0, *range(2, x.ndim))
    wide = (-1,) + (1,) * (x.ndim - 2)  # (C,) -> (C, 1, 1)
    inverse_std = xp.reshape(1 / xp.sqrt(var + eps), wide)
    x_hat = (x - xp.reshape(mean, wide)) * inverse_std
    scale = xp.reshape(gamma, wide)

    def vjp_x(g: Array) -> Array:
        if constant:
            return g * (scale * inverse_std)
        return _normalised_vjp(g * scale, x_hat, inverse_std, axes, across)

    return x_hat * scale + xp.reshape(beta, wide), (
        vjp_x,
        lambda g: xp.sum(g * x_hat, axis=axes),
        lambda g: xp.sum(g, axis=axes),
    )


def add_relu(x: Tensor, y: Tensor) -> Tensor:
    """relu(x + y): as one op where the backend has a kernel for both."""
    if in_force.kernels.get(_add_relu.__name__) is None:
        return relu(x + y)
    return _add_relu(x, y)


@op
def _add_relu(x: Array, y: Array) -> Result:
    """The definitions of both, one after the other."""
    return _then_relu(*add.__wrapped__(x, y))  # type: ignore[attr-defined]


def batch_norm_relu(x: Tensor, gamma: Tensor, beta: Tensor, **options: Any) -> Tensor:
    """relu(batch_norm(x, gamma, beta, ...)): as one op where the backend has a kernel for both."""
    if in_force.kernels.get(_batch_norm_relu.__name__) is None:
        return relu(batch_norm(x, gamma, beta, **options))
    return _batch_norm_relu(x, gamma, beta, **options)


@op
def _batch_norm_relu(x: Array, gamma: Array, beta: Array, **options: Any) -> Result:
    """The definitions of both, one after the other."""
    return _then_relu(*batch_norm.__wrapped__(x, gamma, beta, **options))  # type: ignore[attr-defined]


def _then_relu(x: Array, vjps: tuple[Callable[[Array], Array], ...]) -> Result:
    """relu of an op's result, as one op: the gradient at x is computed once for all inputs."""
    value, (vjp_relu,) = relu.__wrapped__(x)  # type: ignore[attr-defined]

    def back(g: Array) -> tuple[Array, ...]:
        at_x = vjp_relu(g)
        return tuple(vjp(at_x) for vjp in vjps)

    return value, back


@op(alike=(0, 1))
def layer_norm(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Result:
    """Every row (the last axis) normalised by its own mean and variance (Ba et al. 2016)."""
    _check_bias("layer_norm", beta, gamma)
    if x.shape[-1:] != gamma.shape:
        raise ShapeError(
            f"layer_norm: inputs of shape {x.shape} do not fit a scale of shape {gamma.shape}: the "
            "last axes must be equal; build the layer for that width"
        )
    inverse_std = 1 / xp.sqrt(xp.var(x, axis=-1, keepdims=True) + eps)
    x_hat = (x - xp.mean(x, axis=-1, keepdims=True)) * inverse_std
    leading = tuple(range(x.ndim - 1))
    return x_hat * gamma + beta, (
        lambda g: _normalised_vjp(g * gamma, x_hat, inverse_std, (-1,)),
        lambda g: xp.sum(g * x_hat, axis=leading),
        lambda g: xp.sum(g, axis=leading),
    )


@op(alike=(0, 1))
def group_norm(x: Array, gamma: Array, beta: Array, *, groups: int, eps: float = 1e-5) -> Result:
    """Channels of (N, C, H, W) normalised in ``groups``, sample by sample (Wu and He 2018)."""
    _check_bias("group_norm", beta, gamma)
    if x.ndim != 4 or x.shape[1:2] != gamma.shape or x.shape[1] % groups:
        raise ShapeError(
            f"group_norm: inputs of shape {x.shape} do not fit {gamma.shape[0]} channels in "
            f"{groups} groups: give (N, C, H, W) with C divisible by the number of groups"
        )
    shape = x.shape
    rows = xp.reshape(x, (shape[0], groups, -1))  # (N, G, C/G*H*W)
    inverse_std = 1 / xp.sqrt(xp.var(rows, axis=-1, keepdims=True) + eps)
    rows_hat = (rows - xp.mean(rows, axis=-1, keepdims=True)) * inverse_std
    x_hat = xp.reshape(rows_hat, shape)
    scale = gamma[:, None, None]

    def vjp_x(g: Array) -> Array:
        g_hat = xp.reshape(g * scale, rows_hat.shape)
        return xp.reshape(_normalised_vjp(g_hat, rows_hat, inverse_std, (-1,)), shape)

    return x_hat * scale + beta[:, None, None], (
        vjp_x,
        lambda g: xp.sum(g * x_hat, axis=(0, 2, 3)),
        lambda g: xp.sum(g, axis=(0, 2, 3)),
    )


# Attention


def _masked_softmax(scores: Array) -> Array:
    """Softmax over the last axis, where -inf is a key not to look at; 0 where there is no other."""
    if not scores.shape[-1]:
        return scores
    largest = xp.max(scores, axis=-1, keepdims=True)
    e = xp.exp(scores - xp.where(largest == -math.inf, 0, largest))
    total = xp.sum(e, axis=-1, keepdims=True)
    return e / xp.where(total == 0, 1, total)


@op
def scaled_dot_product_attention(q: Array, k: Array, v: Array, mask: Array | None = None) -> Result:
    """softmax(q k^T / sqrt(d)) v over the last two axes (Vaswani et al. 2017).

    q (..., L, d), k (..., S, d), v (..., S, e) -> (..., L, e). ``mask``, broadcastable to
    (..., L, S), is true where a query may look at a key. A query that may look at none gets 0.
    """
    if (
        min(q.ndim, k.ndim, v.ndim) < 2
        or q.shape[-1] != k.shape[-1]
        or (k.shape[-2] != v.shape[-2] or not q.shape[:-2] == k.shape[:-2] == v.shape[:-2])
    ):
        raise ShapeError(
            f"scaled_dot_product_attention: q {q.shape}, k {k.shape}, v {v.shape} do not fit: give "
            "q (..., L, d), k (..., S, d), v (..., S, e) with equal leading axes"
        )
    scale = 1 / math.sqrt(q.shape[-1])
    scores = (q @ k.mT) * scale  # (..., L, S)
    if mask is not None:
        if not xp.isdtype(mask.dtype, "bool"):
            raise ShapeError(
                f"scaled_dot_product_attention: a mask of type {mask.dtype}; give one of truths, "
                "True where a query may look at a key (not numbers to be added to the scores)"
            )
        shape = scores.shape
        scores = xp.where(mask, scores, -math.inf)
        if scores.shape != shape:
            raise ShapeError(
                f"scaled_dot_product_attention: a mask {mask.shape} does not fit scores {shape}; "
                "give one that broadcasts to them"
            )
    p = _softmax(scores, axis=-1) if mask is None else _masked_softmax(scores)

    def vjps(g: Array) -> tuple[Array | None, ...]:
        g_scores = _softmax_vjp(g @ v.mT, p, axis=-1) * scale
        return (
            g_scores @ k,
            g_scores.mT @ q,
            p.mT @ g,
            None,
        )

    return p @ v, vjps


_attention = replaceable(scaled_dot_product_attention.__wrapped__)  # type: ignore[attr-defined]


@op
def self_attention(qkv: Array) -> Result:
    """`scaled_dot_product_attention` of queries, keys and values stacked: (3, ..., L, d).

    As one op, so that the three gradients are written to one array, which lies as ``qkv`` does.
    """
    if qkv.ndim < 3 or qkv.shape[0] != 3:
        raise ShapeError(f"self_attention: shape {qkv.shape}; give q, k, v stacked, (3, ..., L, d)")
    value, vjps = _attention(*(qkv[i, ...] for i in range(3)))

    def vjp(g: Array) -> Array:
        back = xp.empty_like(qkv)
        for i, gradient in enumerate(vjps(g)[:3]):
            back[i, ...] = gradient
        return back

    return value, (vjp,)


# Compositions


def dropout(x: Tensor, p: float, stream: Stream) -> Tensor:
    """Zero values with probability p, scale the others by 1 / (1 - p) (Srivastava et al. 2014)."""
    mask = stream.keep_mask(x.shape, 1 - p, x.dtype) * (1 / (1 - p))
    return mul(x, Tensor.over(mask))


def embedding(table: Tensor, indices: Any) -> Tensor:
    """Rows of a table (V, d) by whole numbers 0 .. V - 1 of any shape (...): (..., d).

    Other numbers are an IndexError; where looking at them would make the host wait, their rows are
    nan.
    """
    numbers = xp.asarray(indices._data if isinstance(indices, Tensor) else indices)
    size = table.shape[0]
    if not xp.isdtype(numbers.dtype, "integral") or all_within(numbers, 0, size - 1) is False:
        raise IndexError(
            f"embedding: the indices must be whole numbers 0 .. {size - 1}, for a table of {size} "
            "rows; look for the one that is not, or make the table larger"
        )
    right = (numbers >= 0) & (numbers < size)
    rows = getitem(table, index=xp.where(right, numbers, 0))
    return where(right[..., None], rows, math.nan)


def patches(images: Tensor, size: int) -> Tensor:
    """Images cut into squares, row by row: (N, C, H, W) -> (N, H/size * W/size, C * size^2)."""
    n, c, h, w = images.shape
    if h % size or w % size:
        raise ShapeError(
            f"patches: images of {h} x {w} are not made of patches of {size} x {size}; choose a "
            "size that divides both, or resize the images"
        )
    x = reshape(images, shape=(n, c, h // size, size, w // size, size))
    x = transpose(x, axes=(0, 2, 4, 1, 3, 5))  # (N, H/s, W/s, C, s, s)
    return reshape(x, shape=(n, (h // size) * (w // size), c * size * size))
