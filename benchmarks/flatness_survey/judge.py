"""What is asked of a package's answer: pure functions of numbers, by their definitions.

May import: numpy alone (`watch` is given a model of PyTorch). Imported by: the command, its tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ALIKE = 1e-4
"""Ratios that differ by less are the same: some packages draw in float32."""

Shapes = Sequence[tuple[int, ...]]


# What happens to the model


@dataclass
class Watched:
    """The weights at which a model was asked, in order, each once where it was asked in a row."""

    points: list[np.ndarray] = field(default_factory=list)
    statistics_moved: bool = False


def watch(model: Any) -> Watched:
    """From now on every forward pass of the model, or of a copy of it, is written down."""
    seen = Watched()
    first = _flat(model.buffers())

    def record(module: Any, inputs: Any) -> None:
        point = _flat(module.parameters())
        if not seen.points or not np.array_equal(point, seen.points[-1]):
            seen.points.append(point)
        seen.statistics_moved |= not np.array_equal(_flat(module.buffers()), first)

    model.register_forward_pre_hook(record)
    return seen


def state(model: Any) -> dict[str, Any]:
    """What a measure should leave as it was, bit for bit."""
    grads = [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()]
    return {
        "weights": [p.detach().numpy().tobytes() for p in model.parameters()],
        "statistics": [b.numpy().tobytes() for b in model.buffers()],
        "gradients": grads,
        "modes": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what is no longer the same."""
    return [name for name, value in before.items() if after[name] != value]


def _flat(tensors: Any) -> np.ndarray:
    """All numbers of some tensors in one vector; those that count batches are left out."""
    parts = [t.detach().numpy().ravel() for t in tensors if t.is_floating_point()]
    return np.concatenate(parts).astype("float64") if parts else np.empty(0)


# Curvature


def relative_errors(values: Sequence[float], exact: Sequence[float]) -> list[float | None]:
    """Of each eigenvalue, the largest first; None where the package gave none."""
    given = [*sorted(values, reverse=True)[: len(exact)], *[None] * (len(exact) - len(values))]
    return [None if v is None else relative_error(v, e) for v, e in zip(given, exact)]


def relative_error(value: float | None, exact: float) -> float | None:
    return None if value is None else abs(value - exact) / abs(exact)


# Planes


def directions(points: np.ndarray, snake: bool = False) -> tuple[np.ndarray, np.ndarray, int]:
    """The steps (P,) along and across the rows of a grid that was walked, and a row's length.

    ``points`` (N, P) in the order in which they were asked for; with ``snake`` every other row
    runs backwards and begins one step further, as loss-landscapes walks.
    """
    along = points[1] - points[0]
    turns = np.diff(points, axis=0)
    ahead = turns @ along / (np.linalg.norm(turns, axis=1) * np.linalg.norm(along))
    length = int(np.argmax(ahead < 1 - 1e-6)) + 1
    if length == 1:
        raise ValueError("the points lie on one line")
    second = 2 * length - 2 if snake else length
    return (points[length - 1] - points[0]) / (length - 1), points[second] - points[0], length


def normalised(direction: np.ndarray, w: np.ndarray, shapes: Shapes) -> str:
    """By what a direction (P,) is scaled: 'per filter', 'per tensor', 'every weight alike', 'not'.

    A filter is a row of a parameter with two axes or more. That all are longer or shorter by the
    same factor does not matter.
    """
    pairs = [(d, v) for d, v in zip(_split(direction, shapes), _split(w, shapes)) if d.ndim > 1]
    filters = [
        np.linalg.norm(d.reshape(len(d), -1), axis=1)
        / np.linalg.norm(v.reshape(len(v), -1), axis=1)
        for d, v in pairs
    ]
    tensors = [np.linalg.norm(d) / np.linalg.norm(v) for d, v in pairs]
    alike = [np.linalg.norm(d) / d.size**0.5 for d, _ in pairs]
    if _constant(np.concatenate(filters)):
        return "per filter"
    if _constant(np.array(tensors)):
        return "per tensor"
    if _constant(np.array(alike)):
        return "every tensor to one rms"
    return "not"


def one_axis_moves(direction: np.ndarray, shapes: Shapes) -> bool:
    """Whether biases or norm layers move, which by the definition they do not."""
    return any(np.any(d != 0) for d in _split(direction, shapes) if d.ndim < 2)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def centre(points: np.ndarray, w: np.ndarray, step: float) -> str:
    """Whether w is a point of the grid, and its middle."""
    nearest = min(float(np.abs(p - w).max()) for p in points)
    is_point = {True: "w", False: "w to rounding"}[nearest == 0]
    if nearest > 1e-6 * np.abs(w).max():
        is_point = "no point is w"
    off = float(np.linalg.norm(points.mean(axis=0) - w)) / step
    return is_point if off < 0.01 else f"{is_point}; the middle is {off:.2g} steps off"


def loss_error(given: np.ndarray, right: np.ndarray) -> float | None:
    """The largest relative error of the plane's losses, the smallest with the smallest.

    None where their numbers differ; infinity where one of the given is no number.
    """
    given = np.ravel(given).astype("float64")
    if len(right) == 1:
        right = np.full(len(given), right[0])
    if len(given) != len(right):
        return None
    if not np.isfinite(given).all():
        return float("inf")
    return float(np.max(np.abs(np.sort(given) - np.sort(right)) / np.abs(np.sort(right))))


def plane(
    watched: Watched,
    losses: np.ndarray,
    w: np.ndarray,
    shapes: Shapes,
    losses_at: Callable[[np.ndarray], np.ndarray],
    snake: bool = False,
) -> dict[str, Any]:
    """All that is asked of a plane."""
    points = np.stack(watched.points)
    found: dict[str, Any] = {"loss_error": loss_error(losses, losses_at(points))}
    found["statistics_moved"] = watched.statistics_moved
    if len(points) == 1:
        return {**found, "constant": True, "centre": centre(points, w, 1.0)}
    along, across, _ = directions(points, snake)
    return {
        **found,
        "normalised": normalised(along, w, shapes),
        "one_axis_moves": one_axis_moves(along, shapes),
        "cosine": cosine(along, across),
        "centre": centre(points, w, float(np.linalg.norm(along))),
    }


def _split(vector: np.ndarray, shapes: Shapes) -> list[np.ndarray]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes)]


def _constant(ratios: np.ndarray) -> bool:
    return bool(ratios.min() > 0 and ratios.max() / ratios.min() - 1 < ALIKE)
