"""R-SAM's draw: Gaussian noise around w, as large in every filter as the filter itself.

A *filter* is what makes one output: a row of a Linear weight (out, in), an output channel of a
convolution weight (O, I, kH, kW). With the output axis first, each filter is a contiguous run of
the flat vector. A parameter with one axis (a bias, a scale) is one filter as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rsam_backends import Stream, replaceable, xp
from rsam_backends.base import Array

Shapes = Sequence[tuple[int, ...]]

TINY = 1e-16


@replaceable
def filter_scale(w: Array, shapes: Shapes) -> Array:
    """s: for every weight of the flat vector w (P,), the norm of the filter it belongs to: (P,).

    ``shapes`` are the parameters' shapes, in the order in which they lie in w.
    """
    total = sum(math.prod(shape) for shape in shapes)
    if total != w.size:
        raise ValueError(
            f"the shapes {list(shapes)} hold {total} weights, the vector {w.size}; give the shapes "
            "of all parameters in their order in w (model.weights.shapes)"
        )
    scale = xp.empty_like(w)
    start = 0
    for shape in shapes:
        filters, width = _rows(shape)
        part = slice(start, start + filters * width)
        rows = w[part].reshape(filters, width)
        norms = xp.sqrt((rows * rows).sum(axis=1, keepdims=True))
        scale[part].reshape(filters, width)[...] = norms + TINY if len(shape) == 1 else norms
        start += filters * width
    return scale


def filter_noise(w: Array, shapes: Shapes, *, sigma: float, stream: Stream) -> Array:
    """D = sigma * s * z with z ~ N(0, I), drawn independently for every weight: (P,).

    (The public JAX code uses one random key for all tensors, so there tensors of equal shape get
    equal draws. Here they do not.)
    """
    check_sigma(sigma)
    z = stream.normal(w.size, w.dtype)
    return float(sigma) * filter_scale(w, shapes) * z


def ball_noise(w: Array, *, sigma: float, stream: Stream) -> Array:
    """The variant `ball`: D = sigma * z / ||z|| over all weights together, whatever their size."""
    check_sigma(sigma)
    z = stream.normal(w.size, w.dtype)
    return float(sigma) / xp.sqrt(z @ z) * z


def check_sigma(sigma: float) -> None:
    """Raise ValueError for a noise scale below 0 or not finite."""
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma scales the noise and must be a finite number >= 0, not {sigma}")


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """A parameter as (filters, weights of a filter)."""
    filters = shape[0] if len(shape) > 1 else 1
    return filters, math.prod(shape) // filters
