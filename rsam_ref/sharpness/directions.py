"""The loss along random directions that are comparable between networks (Li et al. 2018).

ReLU and batch norm let a network's filters be rescaled without a change of what it computes, so a
direction of fixed length would make the network with larger weights look flatter. Hence every
filter of the direction is given the norm of the same filter of w: a step of 1 changes every filter
by its own length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rsam_backends import Stream, library_of, normal_like
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import Shapes, filter_scale

Loss = Callable[[Array], Array]


def filter_normalised_direction(w: Array, shapes: Shapes, stream: Stream) -> Array:
    """A random direction d (P,) with ||d_f|| = ||w_f|| for every filter f.

    ``shapes`` are the parameters' shapes in their order in w, and a filter is as in `noise.py`.
    Biases and the scales of norms, all parameters with one axis, stay where they are (d = 0), as in
    the code of Li, Xu, Taylor, Studer and Goldstein (Visualizing the Loss Landscape of Neural Nets,
    NeurIPS 2018). A network of one bare vector would leave nothing to move: ValueError.
    """
    if all(len(shape) < 2 for shape in shapes):
        raise ValueError(
            "filter-normalised directions move filters, the rows of parameters with two axes or "
            f"more; the shapes {list(shapes)} have none"
        )
    z = normal_like(w, stream)
    direction = z / filter_scale(z, shapes) * filter_scale(w, shapes)
    parts, start = [], 0
    for shape in shapes:
        part = direction[start : start + math.prod(shape)]
        parts.append(part if len(shape) > 1 else 0 * part)
        start += math.prod(shape)
    return library_of(w).concatenate(parts)


def loss_along(loss: Loss, w: Array, direction: Array, steps: Sequence[float]) -> Array:
    """The losses at w + t d for every t of ``steps``: (len(steps),), on the device."""
    library = library_of(w)
    return library.stack([library.asarray(loss(w + t * direction)) for t in steps])


def loss_over_plane(
    loss: Loss, w: Array, across: Array, up: Array, xs: Sequence[float], ys: Sequence[float]
) -> Array:
    """The losses at w + x across + y up: (len(ys), len(xs)), a row for every y."""
    return library_of(w).stack([loss_along(loss, w + y * up, across, xs) for y in ys])
