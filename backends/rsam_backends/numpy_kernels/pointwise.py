"""Elementwise work in pieces that stay in the cache, each read and written once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from rsam_backends.base import Array, Result
from rsam_backends.numpy_kernels.blocks import PIECE, Flat, large
from rsam_backends.threads import share_out


def add(x: Array, y: Array) -> Result:
    """On as many threads as there are; on one no faster."""
    if not _fit(x, y):
        return NotImplemented
    return _by_piece(x, y, np.add), (lambda g: g, lambda g: g)


def relu(x: Array) -> Result:
    """On one thread 2.5 times as fast where x and ``g`` lie in different orders, else no faster."""
    if not large(x):
        return NotImplemented
    zeros = _zeros(x)
    value = _by_piece(x, x, lambda x, _, out: np.maximum(x, zeros[: len(out)], out=out))
    return value, (lambda g: _where_open(value, g),)


def _add_relu(x: Array, y: Array) -> Result:
    """1.6 times as fast as one after the other: the sum stays in the cache."""
    if not _fit(x, y):
        return NotImplemented
    zeros = _zeros(x)

    def added(x: Array, y: Array, out: Array) -> None:
        np.add(x, y, out=out)
        np.maximum(out, zeros[: len(out)], out=out)

    value = _by_piece(x, y, added)
    return value, to_both(lambda g: _where_open(value, g))


def to_both(vjp: Callable[[Array], Array]) -> Callable[[Array], tuple[Array, Array]]:
    """The vjps of two inputs that have one gradient, computed once."""

    def vjps(g: Array) -> tuple[Array, Array]:
        back = vjp(g)
        return back, back

    return vjps


def _where_open(value: Array, g: Array) -> Array:
    """The gradient ``g`` where a relu has let something through."""
    return _by_piece(value, g, lambda value, g, out: np.multiply(g, value != 0, out=out))


def _fit(x: Array, y: Array) -> bool:
    return getattr(x, "shape", 0) == getattr(y, "shape", 1) and large(x, y)


def _zeros(x: Array) -> Array:
    """As many as a piece of x has numbers: three times as fast as one zero."""
    return np.zeros(min(x.size, PIECE // x.itemsize), x.dtype)


def _by_piece(x: Array, y: Array, compute: Callable[..., object]) -> Array:
    """What is computed of two arrays number by number, laid out as x is."""
    lay = Flat(x)
    xs, ys = lay.run(x), lay.run(y)
    value = np.empty_like(xs)

    def work(piece: slice) -> None:
        compute(xs[piece], ys[piece], out=value[piece])

    share_out(work, lay.pieces)
    return lay.array(value)


def gelu(x: Array, *, approximate: bool = False) -> Result:
    """Value and slope in one go over x: 3.8 times as fast on 64 x 65 x 768 (by tanh 1.9)."""
    if not large(x):
        return NotImplemented
    lay = Flat(x)
    run = lay.run(x)
    value, slope = np.empty_like(run), np.empty_like(run)
    below_and_density = _tanh_normal if approximate else _normal

    def forward(piece: slice) -> None:
        x = run[piece]
        below, density = below_and_density(x)
        np.multiply(x, below, out=value[piece])
        density *= x
        np.add(below, density, out=slope[piece])

    share_out(forward, lay.pieces)

    def vjp(g: Array) -> Array:
        g = lay.run(g)
        back = np.empty_like(g)

        def backward(piece: slice) -> None:
            np.multiply(g[piece], slope[piece], out=back[piece])

        share_out(backward, lay.pieces)
        return lay.array(back)

    return lay.array(value), (vjp,)


TAIL = 0.28, (0.11652696, 0.06745824, 0.26900545, -0.2371106, 0.38994553, -0.10582561)
"""p and c of P(Z > u) = exp(-u^2 / 2) (c0 t + c1 t^2 + ... + c5 t^6), t = 1 / (1 + p u), u >= 0.

Fitted to be right to 1e-8 in the form of Abramowitz and Stegun 7.1.26.
"""


def _normal(x: Array) -> tuple[Array, Array]:
    """P(Z <= x) and the density of Z at x, for a standard normal Z."""
    density = x * x
    density *= -0.5
    np.exp(density, out=density)
    if x.dtype == np.float32:
        p, c = TAIL
        t = np.abs(x)
        t *= p
        t += 1
        np.reciprocal(t, out=t)
        tail = t * c[-1]
        for coefficient in c[-2::-1]:
            tail += coefficient
            tail *= t
        tail *= density
        below = np.subtract(0.5, tail, out=tail)
        np.copysign(below, x, out=below)
    else:
        from scipy.special import erf  # 0.1 s to import

        below = erf(x * math.sqrt(0.5))
        below *= 0.5
    below += 0.5
    density *= 1 / math.sqrt(2 * math.pi)
    return below, density


def _tanh_normal(x: Array) -> tuple[Array, Array]:
    """0.5 (1 + tanh(c (x + 0.044715 x^3))) and its derivative."""
    c = math.sqrt(2 / math.pi)
    square = x * x
    t = square * (0.044715 * c)
    t += c
    t *= x
    np.tanh(t, out=t)
    square *= 3 * 0.044715 * 0.5 * c
    square += 0.5 * c
    below = 0.5 * t
    below += 0.5
    t *= t
    np.subtract(1, t, out=t)
    square *= t
    return below, square
