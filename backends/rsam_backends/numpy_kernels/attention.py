"""Attention, a few samples at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rsam_backends.base import Array, Result
from rsam_backends.numpy_kernels.blocks import PIECE, blocks, large
from rsam_backends.threads import share_out


def scaled_dot_product_attention(q: Array, k: Array, v: Array, mask: Array | None = None) -> Result:
    """Scores in place, the heads of a token side by side: 1.1 times as fast on 64 x 3 x 65 x 64.

    The definition's small products use one thread only.
    """
    if mask is not None or not all(a.ndim >= 3 and a.size for a in (q, k, v)):
        return NotImplemented
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or not large(q, k, v):
        return NotImplemented
    lead = q.shape[:-2]
    if not lead == k.shape[:-2] == v.shape[:-2]:
        return NotImplemented
    scale = 1 / math.sqrt(q.shape[-1])
    p = np.empty((*lead, q.shape[-2], k.shape[-2]), q.dtype)
    parts = blocks(len(p), p.nbytes // len(p), PIECE)
    ones = np.ones((k.shape[-2], 1), q.dtype)
    value = _tokens_first((*q.shape[:-1], v.shape[-1]), q.dtype)

    def forward(part: slice) -> None:
        scores = np.matmul(q[part], k[part].swapaxes(-1, -2), out=p[part])
        scores *= scale
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores @ ones
        np.matmul(scores, v[part], out=value[part])

    share_out(forward, parts)

    def vjps(g: Array) -> tuple[Array | None, ...]:
        g_q, g_k, g_v = (_tokens_first(a.shape, a.dtype) for a in (q, k, v))

        def backward(part: slice) -> None:
            np.matmul(p[part].swapaxes(-1, -2), g[part], out=g_v[part])
            g_scores = g[part] @ v[part].swapaxes(-1, -2)
            g_scores *= p[part]
            g_scores -= p[part] * (g_scores @ ones)
            g_scores *= scale
            np.matmul(g_scores, k[part], out=g_q[part])
            np.matmul(g_scores.swapaxes(-1, -2), q[part], out=g_k[part])

        share_out(backward, parts)
        return g_q, g_k, g_v, None

    return value, vjps


def _tokens_first(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array (..., heads, tokens, width) that lies as (..., tokens, heads, width)."""
    *lead, heads, tokens, width = shape
    return np.empty((*lead, tokens, heads, width), dtype).swapaxes(-3, -2)
