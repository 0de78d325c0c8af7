"""Convolution as matrix products, channels last."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rsam_backends.base import Array, Result
from rsam_backends.numpy_kernels import blocks
from rsam_backends.threads import share_out
from rsam_backends.windows import Pair, fit, pair


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    groups: int = 1,
) -> Result:
    """One product for each row of the filters, added up: a third of the copies of whole windows.

    8 times as fast as the definition on 128 x 16 x 32 x 32, and 1.4 times as whole windows as rows.
    """
    if not _fits(x, weight, bias, stride, padding, groups):
        return NotImplemented
    (sh, sw), (ph, pw) = pair(stride), pair(padding)
    o, c, kh, kw = weight.shape
    n, _, h, w = x.shape
    ho, wo = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    images = x.transpose(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
    filters = weight.transpose(2, 3, 1, 0).reshape(kh, kw * c, o)
    parts = blocks.blocks(n, (h + 2 * ph) * wo * kw * c * x.itemsize, blocks.PANEL)
    value = np.empty((n, ho, wo, o), x.dtype)

    def forward(part: slice) -> None:
        out = value[part]
        _correlate(images[part], filters, kw, (sh, sw), (ph, pw), out)
        if bias is not None:
            out += bias

    share_out(forward, parts)

    def vjp_x(g: Array) -> Array:
        g = g.transpose(0, 2, 3, 1)
        back = np.empty((n, h, w, c), x.dtype)
        if (sh, sw) == (1, 1) and ph < kh and pw < kw:
            # The gradient is itself a convolution: of g, with every filter turned by 180 degrees.
            turned = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(kh, kw * o, c)
            margin = kh - 1 - ph, kw - 1 - pw

            def backward(part: slice) -> None:
                _correlate(g[part], turned, kw, (1, 1), margin, back[part])

        else:

            def backward(part: slice) -> None:
                spread = g[part].reshape(-1, o) @ filters.reshape(-1, o).T
                spread = spread.reshape(-1, ho, wo, kh, kw, c)
                padded = np.zeros((len(spread), h + 2 * ph, w + 2 * pw, c), x.dtype)
                for i in range(kh):
                    for j in range(kw):
                        into = padded[:, i : i + sh * ho : sh, j : j + sw * wo : sw]
                        into += spread[:, :, :, i, j]
                back[part] = padded[:, ph : ph + h, pw : pw + w]

        share_out(backward, parts)
        return back.transpose(0, 3, 1, 2)

    def vjp_weight(g: Array) -> Array:
        g = g.transpose(0, 2, 3, 1).reshape(n, ho * wo, o)
        sums = np.empty((len(parts), kh, kw * c, o), x.dtype)

        def backward(i: int) -> None:
            part = parts[i]
            for j, rows in enumerate(_rows(images[part], (kh, kw), (sh, sw), (ph, pw))):
                (rows.swapaxes(1, 2) @ g[part]).sum(axis=0, out=sums[i, j])

        share_out(backward, range(len(parts)))
        # Summed in the order of the parts, so that the number of threads changes nothing.
        return sums.sum(axis=0).reshape(kh, kw, c, o).transpose(3, 2, 0, 1)

    def vjp_bias(g: Array) -> Array:
        g = g.transpose(0, 2, 3, 1).reshape(-1, o)
        return np.ones(len(g), g.dtype) @ g

    return value.transpose(0, 3, 1, 2), (vjp_x, vjp_weight, vjp_bias)


def _correlate(
    images: Array, filters: Array, kw: int, stride: Pair, padding: Pair, out: Array
) -> None:
    """Images (B, H, W, C) with filters (kH, kW * C, O), written to ``out`` (B, Ho, Wo, O)."""
    b, ho, wo, o = out.shape
    out = out.reshape(b, ho * wo, o)
    more = np.empty_like(out)
    for i, rows in enumerate(_rows(images, (len(filters), kw), stride, padding)):
        np.matmul(rows, filters[i], out=more if i else out)
        if i:
            out += more


def _rows(images: Array, window: Pair, stride: Pair, padding: Pair) -> Iterator[Array]:
    """For each row of the window, that row of every window of images (B, H, W, C).

    (B, Ho * Wo, kW * C), kH times: views of one another where the stride is 1.
    """
    (kh, kw), (sh, sw), (ph, pw) = window, stride, padding
    b, h, w, c = images.shape
    if ph or pw:
        padded = np.zeros((b, h + 2 * ph, w + 2 * pw, c), images.dtype)
        padded[:, ph : ph + h, pw : pw + w] = images
    else:
        padded = np.ascontiguousarray(images)
    ho, wo = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    one = padded.itemsize  # NumPy's own strides are arbitrary along an axis of size 1
    along_w = one * c
    along_h = along_w * (w + 2 * pw)
    along_n = along_h * (h + 2 * ph)
    # In memory a row of a window is kW * C numbers that lie side by side.
    shape, strides = (b, h + 2 * ph, wo, kw * c), (along_n, along_h, along_w * sw, one)
    wide = np.ascontiguousarray(np.ndarray(shape, padded.dtype, padded, 0, strides))
    for i in range(kh):
        yield wide[:, i : i + sh * ho : sh].reshape(b, ho * wo, kw * c)


def _fits(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: int | Pair,
    padding: int | Pair,
    groups: int,
) -> bool:
    """Whether the kernel can do it; what it leaves, the definition does or says what is wrong."""
    if groups != 1 or x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        return False
    if x.dtype != weight.dtype or x.dtype.kind != "f" or x.size * weight.size == 0:
        return False
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != x.dtype):
        return False
    return fit(x, weight.shape[2:], pair(stride), pair(padding))
