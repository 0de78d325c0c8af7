"""Planes to draw the loss over, that mean something: w + x across + y up with orthonormal axes.

A random plane sees the mean curvature, which most directions have; these see chosen ones. Their
steps are lengths in weights, and not in norms of filters as in directions.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rsam_backends.base import Array
from rsam_ref.algorithms.sam import norm


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane of weights; `loss_over_plane` takes its origin and axes."""

    origin: Array
    """Where x = y = 0: (P,)."""
    across: Array
    """A unit vector (P,)."""
    up: Array
    """A unit vector (P,), at right angles to across."""
    places: list[tuple[float, float]]
    """The coordinates x, y of the points that the plane was laid for, in their order."""
    apart: list[float]
    """How far each of these points lies from the plane: 0 where it goes through them."""


def plane_through(a: Array, b: Array, c: Array) -> Plane:
    """The plane through three models' weights (P,), with a as its origin and b on its x axis.

    Raises ValueError where they lie on one line (Garipov, Izmailov, Podoprikhin, Vetrov and
    Wilson, Loss surfaces, mode connectivity, NeurIPS 2018).
    """
    first, second = b - a, c - a
    across = first / norm(first) if float(norm(first)) > 0 else first
    rest = second - (across @ second) * across
    rest = rest - (across @ rest) * across
    if float(norm(rest)) <= 1e-7 * float(norm(second)) or float(norm(first)) == 0:
        raise ValueError("three models on one line make no plane; give others")
    return _plane(a, across, rest / norm(rest), [a, b, c])


def plane_along(w: Array, across: Array, up: Array) -> Plane:
    """The plane through w (P,) along two directions, of the Hessian's leading eigenvectors, say."""
    return plane_through(w, w + across / norm(across), w + up / norm(up))


def plane_of_trajectory(checkpoints: Sequence[Array]) -> tuple[Plane, list[float]]:
    """The plane through the last of some checkpoints (P,) along their two principal axes.

    With it come the shares of the variance that the axes have, of all of them, descending: where
    the first two are far from 1 together, the path leaves the plane (and a random walk in many
    dimensions has 0.6 and 0.15). The axes are those of the steps to the last checkpoint, as Li et
    al. (NeurIPS 2018) lay them. Raises ValueError for fewer than three checkpoints, or on one line.
    """
    if len(checkpoints) < 3:
        raise ValueError(f"principal axes need at least 3 checkpoints, not {len(checkpoints)}")
    from scipy.linalg import eigh

    last = checkpoints[-1]
    steps = [w - last for w in checkpoints[:-1]]
    values, vectors = eigh([[float(a @ b) for b in steps] for a in steps])
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[1] <= 1e-14 * values[0]:
        raise ValueError("checkpoints on one line make no plane; give others")
    axes: list[Array] = []
    for i in range(2):
        axis = sum((float(c) * step for c, step in zip(vectors[:, i], steps)), start=0 * last)
        for other in axes:
            axis = axis - (other @ axis) * other
        axes.append(axis / norm(axis))
    total = float(values.clip(0).sum())
    shares = [max(float(value), 0.0) / total for value in values]
    return _plane(last, axes[0], axes[1], checkpoints), shares


def _plane(origin: Array, across: Array, up: Array, points: Sequence[Array]) -> Plane:
    places, apart = [], []
    for point in points:
        step = point - origin
        x, y = float(across @ step), float(up @ step)
        places.append((x, y))
        apart.append(float(norm(step - x * across - y * up)))
    return Plane(origin, across, up, places, apart)
