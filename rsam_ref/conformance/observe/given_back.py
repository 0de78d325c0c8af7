"""What a step on NumPy arrays gives back: the new weights, in whatever else it returns; nothing,
for it has changed them in place; or a gradient, which the caller is to step with.

Found out in the first step, by what the numbers are: new weights are near the old ones, a gradient
is made of those that were evaluated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsam_ref.conformance.observe.array_layouts import Layout
from rsam_ref.conformance.observe.problem import Hyper

Path = tuple[Any, ...]

GRADIENT_NAMES = (
    "gradient",
    "grad",
    "g",
    "grads",
    "gradients",
    "sam_grad",
    "sam_gradient",
    "update",
)
NO_RESULT = ("adv", "pert", "ascent", "noise", "eps", "old", "first", "before", "start")
"""What the names of quantities have in them that are neither the new weights nor the gradient."""

SMALL = 1e-6
"""A relative difference that rounding makes, in float32 too."""


@dataclass(frozen=True)
class GivenBack:
    """What it is, and where in what is returned it stands."""

    what: str
    """ "weights", "gradient", or "update": what is to be added to the weights, or taken off."""
    path: Path | None = ()
    """Keys, places and attributes that lead to it; None: it is what the step was given."""
    held: str = ""
    """The attribute that holds the weights, where a class has its own."""
    sign: float = 1.0
    """Of an update: 1 where it is to be added."""
    own: tuple[str, ...] = ()
    """The settings of the base step that are in it already."""

    def of(self, result: Any) -> Any:
        """It, in what another step returned. Raises LookupError where it is not there."""
        for key in self.path or ():
            try:
                result = inside(result)[key]
            except (KeyError, TypeError):
                raise LookupError from None
        return result


@dataclass
class Outcome:
    """All that was seen of a step, as vectors (P,)."""

    layout: Layout
    before: np.ndarray
    left: np.ndarray | None
    """What the step was given, as it left it."""
    result: Any
    gradients: list[np.ndarray]
    points: list[np.ndarray]
    instance: Any = None
    hyper: Hyper = field(default_factory=Hyper)
    takes: frozenset[str] = frozenset()
    """The settings that it takes by name."""
    keeps_state: bool = False
    """Whether there is a state in what it returns, in which is nothing to look for."""


def found_out(seen: Outcome) -> GivenBack | None:
    """What a step gives back; None where it gives nothing that is weights or gradient."""
    items = list(_like_weights(seen, depth=1 if seen.keeps_state else 2))
    weights = [item for item in items if not item[2] < 0.5]
    weights.sort(key=lambda item: (_is_aside(item[0]), _is_a_point(seen, item[1])))
    gradients = [item for item in items if item[2] < 0.5]
    gradients.sort(key=lambda item: _rank(seen, item[0], item[1]))
    moved = seen.left is not None and _moved(seen, seen.left)
    if weights and gradients and _is_where_it_was_taken(seen, weights[0], gradients[0]):
        weights = []
    if weights and (not moved or weights[0][0] in ((), (0,))):
        return GivenBack("weights", weights[0][0])
    if moved:
        return GivenBack("weights", None)
    if held := _held(seen):
        return GivenBack("weights", None, held)
    if gradients:
        return _as_gradient(seen, *gradients[0])
    deeper = [item for item in _like_weights(seen, depth=2) if not item[2] < 0.5]
    deeper = [item for item in deeper if not _is_a_point(seen, item[1])]
    if deeper:
        return GivenBack("weights", deeper[0][0])
    if seen.left is not None and not np.array_equal(seen.left, seen.before):
        return GivenBack("weights", None)
    return None


def _like_weights(seen: Outcome, depth: int) -> Iterator[tuple[Path, np.ndarray, float, float]]:
    """What has the shapes of the weights: where, as a vector (P,), and its `shares`."""
    for path, value in items_in(seen.result, depth=depth):
        if (vector := seen.layout.flat(value)) is not None:
            yield path, vector, *shares(seen, vector)


def _as_gradient(
    seen: Outcome, path: Path, vector: np.ndarray, of_w: float, of_g: float
) -> GivenBack:
    """A gradient, or where it has lr in it already an update; and what else it has in it."""
    rate, decay = seen.hyper.lr, seen.hyper.weight_decay
    if "lr" in seen.takes and abs(abs(of_g) / rate - 1) < SMALL * 100:
        return GivenBack("update", path, sign=float(np.sign(-of_g)))
    own = [s for s in ("momentum",) if s in seen.takes]
    if abs(of_w / decay - 1) < 1e-3:
        own.append("weight_decay")
    return GivenBack("gradient", path, own=tuple(own))


def items_in(result: Any, path: Path = (), depth: int = 2) -> Iterator[tuple[Path, Any]]:
    """What is returned, and all that is in it."""
    yield path, result
    if depth:
        for key, value in inside(result).items():
            yield from items_in(value, (*path, key), depth - 1)


def inside(value: Any) -> dict[Any, Any]:
    """What something holds, by key, place or attribute."""
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value))
    if isinstance(value, tuple | list):
        return dict(enumerate(value))
    plain = isinstance(value, np.ndarray | np.generic | str | bytes | int | float | complex)
    return {} if plain or callable(value) else dict(getattr(value, "__dict__", {}))


def shares(seen: Outcome, vector: np.ndarray) -> tuple[float, float]:
    """How much of w and of the last gradient is in a vector."""
    if not np.isfinite(vector).all():
        return 1.0, 0.0
    unlike = [
        g
        for i, g in enumerate(seen.gradients)
        if not any((g == h).all() for h in seen.gradients[:i])
    ]
    plane = np.stack([seen.before, *unlike], axis=1)
    with np.errstate(all="ignore"):
        if not np.isfinite(plane).all():
            return 1.0, 0.0
        found, *_ = np.linalg.lstsq(plane, vector, rcond=None)
    return float(found[0]), float(found[-1]) if unlike else 0.0


def _moved(seen: Outcome, left: np.ndarray) -> bool:
    """Whether what a step was given has been moved, and not just perturbed or put back."""
    far = np.linalg.norm(left - seen.before) > SMALL * np.linalg.norm(seen.before)
    return bool(far) and not _is_a_point(seen, left)


def _is_a_point(seen: Outcome, vector: np.ndarray) -> bool:
    """Whether a gradient was evaluated there: no place where a step ends."""
    near = SMALL * np.linalg.norm(seen.before)
    return any(np.linalg.norm(vector - at) <= near for at in (seen.before, *seen.points))


def _is_where_it_was_taken(seen: Outcome, point: Any, gradient: Any) -> bool:
    """Whether a place beside a gradient is the one where that was evaluated, and not the result."""
    (place, at, *_), (path, vector, *_) = point, gradient
    if not _is_a_point(seen, at) or len(path) > len(place):
        return False
    unnamed, _, not_last = _rank(seen, path, vector)
    return not (unnamed and not_last)


def _is_aside(path: Path) -> bool:
    """Whether a name says that it is neither the new weights nor the gradient."""
    name = path[-1].lower() if path and isinstance(path[-1], str) else ""
    return any(word in name for word in NO_RESULT) or name.endswith("0")


def _rank(seen: Outcome, path: Path, vector: np.ndarray) -> tuple[Any, ...]:
    """Of several gradients the one by that name, else the last that was evaluated."""
    name = str(path[-1]) if path and isinstance(path[-1], str) else ""
    last = bool(seen.gradients) and np.array_equal(vector, seen.gradients[-1])
    return name not in GRADIENT_NAMES, bool(name) and _is_aside(path), not last


def _held(seen: Outcome) -> str:
    """The attribute of an object that holds weights that have moved."""
    for name, value in list(getattr(seen.instance, "__dict__", {}).items()):
        vector = seen.layout.flat(value)
        if vector is not None and _moved(seen, vector) and not shares(seen, vector)[0] < 0.5:
            return name
    return ""
