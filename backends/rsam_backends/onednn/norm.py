"""Batch and layer normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from rsam_backends.base import Array, Result
from rsam_backends.onednn.pieces import channels_last, float32, length, pieces
from rsam_backends.onednn.primitive import (
    ADD,
    BACKWARD,
    FORWARD,
    MULTIPLY,
    Primitive,
    Shape,
    cached,
    images,
    in_order,
)
from rsam_backends.threads import share_out

GIVEN_STATISTICS, SCALE, SHIFT, RELU = 1, 2, 4, 8
ROW = 2048
"""Numbers in a row on which an elementwise computation is fastest."""


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Those of every piece, while it is in the cache, put together (Chan et al. 1983).

    1.6 times as fast as the NumPy kernel on 128 x 16 x 32 x 32.
    """
    if not _channels_last(x):
        return NotImplemented
    (n, c, h, w), lasts = x.shape, x.transpose(0, 2, 3, 1)
    parts = pieces(n, 4 * c * h * w)
    means, variances = (np.empty((len(parts), c), x.dtype) for _ in range(2))

    def statistics(i: int) -> None:
        here = lasts[parts[i]]
        unused = np.empty_like(here)
        _statistics((len(here), c, h, w))(
            src=here, dst=unused, mean=means[i], variance=variances[i]
        )

    share_out(statistics, range(len(parts)))
    share = np.array([[length(part) / n] for part in parts], x.dtype)
    mean = (share * means).sum(axis=0)
    return mean, (share * (variances + (means - mean) ** 2)).sum(axis=0)


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
    relu: bool = False,
) -> Result:
    """2.5 times as fast as the NumPy kernel on 128 x 16 x 32 x 32.

    oneDNN takes a gradient as if the statistics were constant, piece by piece. What flows through
    them is added, dx += along_x x + rest, when the sums over all pieces are known.
    """
    by_channel = gamma, beta, mean, var
    if not _channels_last(x, *by_channel) or any(a.shape != x.shape[1:2] for a in by_channel):
        return NotImplemented
    if relu and (constant or not all(np.isfinite(a).all() for a in by_channel)):
        return NotImplemented  # oneDNN's relu of nan is 0
    gamma, beta, mean, var = map(np.ascontiguousarray, by_channel)
    (n, c, h, w), lasts = x.shape, x.transpose(0, 2, 3, 1)
    parts = pieces(n, 8 * c * h * w)
    value = np.empty((n, h, w, c), x.dtype)
    given = {"mean": mean, "variance": var, "scale": gamma}
    options = float(eps), relu
    is_open: list[dict[str, Array]] = [{} for _ in parts]  # which numbers the relu let through

    def forward(i: int) -> None:
        part = parts[i]
        compute = _normalise((length(part), c, h, w), *options)
        if relu:
            is_open[i] = {"workspace": compute.room_for("workspace")}
        compute(src=lasts[part], **given, shift=beta, dst=value[part], **is_open[i])

    share_out(forward, range(len(parts)))

    def vjps(g: Array) -> tuple[Array | None, ...]:
        g = channels_last(g)
        back = np.empty((n, h, w, c), x.dtype)
        gammas, betas = (np.empty((len(parts), c), x.dtype) for _ in range(2))

        def backward(i: int) -> None:
            part = parts[i]
            sums = {"diff_scale": gammas[i], "diff_shift": betas[i]}
            compute = _normalise_backward((length(part), c, h, w), *options)
            arrays = {"src": lasts[part], "diff_dst": g[part], "diff_src": back[part]}
            compute(**arrays, **given, **sums, **is_open[i])

        share_out(backward, range(len(parts)))
        g_gamma, g_beta = gammas.sum(axis=0), betas.sum(axis=0)
        if not constant:
            count = n * h * w
            mean_gamma, mean_beta = g_gamma / count, g_beta / count
            if across is not None:
                mean_gamma, mean_beta = across(mean_gamma), across(mean_beta)
            inverse_std = 1 / np.sqrt(var + eps)
            along_x = -gamma * inverse_std * inverse_std * mean_gamma
            rest = -along_x * mean - gamma * inverse_std * mean_beta
            _add_multiple(back, lasts, along_x, rest, parts)
        return back.transpose(0, 3, 1, 2), g_gamma, g_beta

    return value.transpose(0, 3, 1, 2), vjps


def _add_multiple(back: Array, x: Array, along_x: Array, rest: Array, parts: list[slice]) -> None:
    """back += along_x x + rest by channel, both (N, H, W, C); in rows of several places."""
    n, h, w, c = x.shape
    k = math.gcd(h * w, max(1, ROW // c))
    x, back = (a.reshape(n, -1, k * c) for a in (x, back))
    wide_along_x, wide_rest = np.tile(along_x, k), np.tile(rest, k)

    def add(part: slice) -> None:
        compute = _multiply_add(length(part) * x.shape[1], k * c)
        compute(src=x[part], other=wide_along_x, after_0=wide_rest, dst=back[part])

    share_out(add, parts)


def _channels_last(x: Array, *more: Array) -> bool:
    last = x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous
    return last and float32(x, *more)


@cached
def _statistics(x: Shape) -> Primitive:
    lay = images(*x)
    return Primitive("batch_normalization_forward", FORWARD, lay, lay, 1.0, 0)


@cached
def _normalise(x: Shape, eps: float, relu: bool) -> Primitive:
    lay, flags = images(*x), GIVEN_STATISTICS | SCALE | SHIFT | relu * RELU
    return Primitive("batch_normalization_forward", FORWARD, lay, lay, eps, flags)


@cached
def _normalise_backward(x: Shape, eps: float, relu: bool) -> Primitive:
    lay, flags = images(*x), GIVEN_STATISTICS | SCALE | SHIFT | relu * RELU
    kind, forward = "batch_normalization_backward", _normalise(x, eps, relu)
    return Primitive(kind, BACKWARD, lay, lay, lay, eps, flags, forward=forward)


@cached
def _multiply_add(rows: int, width: int) -> Primitive:
    many, one = in_order(rows, width), in_order(1, width)
    return Primitive("binary", MULTIPLY, many, one, many, after=((ADD, one), "sum"))


def layer_norm(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-5) -> Result:
    """4 times as fast as the NumPy kernel on 64 x 65 x 192."""
    width = x.shape[-1] if x.ndim else 0
    if not float32(x, gamma, beta) or not gamma.shape == beta.shape == (width,):
        return NotImplemented
    shape, eps = x.shape, float(eps)
    rows = np.ascontiguousarray(x.reshape(-1, width))
    parts = pieces(len(rows), 8 * width)
    value = np.empty_like(rows)
    mean, variance = (np.empty(len(rows), x.dtype) for _ in range(2))
    given = {"scale": np.ascontiguousarray(gamma), "shift": np.ascontiguousarray(beta)}

    def forward(part: slice) -> None:
        statistics = {"mean": mean[part], "variance": variance[part]}
        compute = _rows_normalised(length(part), width, eps)
        compute(src=rows[part], **given, **statistics, dst=value[part])

    share_out(forward, parts)

    def vjps(g: Array) -> tuple[Array | None, ...]:
        g = np.ascontiguousarray(g.reshape(rows.shape))
        back = np.empty_like(rows)
        gammas, betas = (np.empty((len(parts), width), x.dtype) for _ in range(2))

        def backward(i: int) -> None:
            part = parts[i]
            arrays = {"src": rows[part], "diff_dst": g[part], "diff_src": back[part], **given}
            statistics = {"mean": mean[part], "variance": variance[part]}
            sums = {"diff_scale": gammas[i], "diff_shift": betas[i]}
            _rows_backward(length(part), width, eps)(**arrays, **statistics, **sums)

        share_out(backward, range(len(parts)))
        return back.reshape(shape), gammas.sum(axis=0), betas.sum(axis=0)

    return value.reshape(shape), vjps


@cached
def _rows_normalised(rows: int, width: int, eps: float) -> Primitive:
    lay, flags = in_order(rows, width), SCALE | SHIFT
    kind = "layer_normalization_forward"
    return Primitive(kind, FORWARD, lay, lay, in_order(rows), eps, flags)


@cached
def _rows_backward(rows: int, width: int, eps: float) -> Primitive:
    lay, flags = in_order(rows, width), SCALE | SHIFT
    kind, forward = "layer_normalization_backward", _rows_normalised(rows, width, eps)
    return Primitive(kind, BACKWARD, lay, lay, lay, in_order(rows), eps, flags, forward=forward)
