"""R-SAM's draw: Gaussian noise around w, as large in every filter as the filter itself.

A *filter* is what makes one output: a row of a Linear weight (out, in), an output channel of a
convolution weight (O, I, kH, kW). With the output axis first, each filter is a contiguous run of
the flat vector. A parameter with one axis (a bias, a scale) is one filter as a whole.

The vectors may be those of the backend in force, or PyTorch's, or JAX's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rsam_backends import Stream, library_of, normal_like, replaceable, xp
from rsam_backends.base import Array

Shapes = Sequence[tuple[int, ...]]

TINY = 1e-16


@replaceable
def filter_scale(w: Array, shapes: Shapes) -> Array:
    """s: for every weight of the flat vector w (P,), the norm of the filter it belongs to: (P,).

    ``shapes`` are the parameters' shapes, in the order in which they lie in w.
    """
    total, size = sum(math.prod(shape) for shape in shapes), math.prod(w.shape)
    if total != size:
        raise ValueError(
            f"the shapes {list(shapes)} hold {total} weights, the vector {size}; give the shapes "
            "of all parameters in their order in w (model.weights.shapes)"
        )
    library = library_of(w)
    parts = [w[:0]]
    scale = xp.empty_like(w) if library is xp else None
    start = 0
    for shape in shapes:
        filters, width = _rows(shape)
        part = slice(start, start + filters * width)
        rows = w[part].reshape(filters, width)
        norms = library.sqrt((rows * rows).sum(axis=1, keepdims=True))  # (filters, 1)
        norms = norms + TINY if len(shape) == 1 else norms
        if scale is not None:
            scale[part].reshape(filters, width)[...] = norms
        else:  # JAX's arrays do not change
            parts.append(library.broadcast_to(norms, (filters, width)).reshape(-1))
        start += filters * width
    return library.concatenate(parts) if scale is None else scale


@replaceable
def scaled_draw(w: Array, shapes: Shapes, z: Array, *, sigma: float, tiny: float) -> Array:
    """sigma * s * z, of a draw z (P,) that is used up; the norm of a bias is ``tiny`` more."""
    return sigma * filter_scale(w, shapes) * z


def filter_noise(w: Array, shapes: Shapes, *, sigma: float, stream: Stream) -> Array:
    """D = sigma * s * z with z ~ N(0, I), drawn independently for every weight: (P,).

    (The public JAX code uses one random key for all tensors, so there tensors of equal shape get
    equal draws. Here they do not.)
    """
    check_sigma(sigma)
    return scaled_draw(w, shapes, normal_like(w, stream), sigma=float(sigma), tiny=TINY)


def ball_noise(w: Array, *, sigma: float, stream: Stream) -> Array:
    """The variant `ball`: D = sigma * z / ||z|| over all weights together, whatever their size."""
    check_sigma(sigma)
    z = normal_like(w, stream)
    return float(sigma) / library_of(w).sqrt(z @ z) * z


def check_sigma(sigma: float) -> None:
    """Raise ValueError for a noise scale below 0 or not finite."""
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma scales the noise and must be a finite number >= 0, not {sigma}")


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """A parameter as (filters, weights of a filter)."""
    filters = shape[0] if len(shape) > 1 else 1
    return filters, math.prod(shape) // filters
