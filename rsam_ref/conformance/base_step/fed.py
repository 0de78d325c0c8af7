"""What a base step may have been given: which gradients, and which weights to start from.

The same readings serve SGD by formula, the replayed base and each tensor by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.observe.base import Base

Vector = np.ndarray


@dataclass(frozen=True)
class Option:
    """One way to do a part of the base step; a list of vectors holds one a step."""

    label: str
    codes: tuple[str, ...]
    value: Any = field(compare=False)


class Fed:
    """What was observed that a base may have been given: full vectors (P,), one a step."""

    def __init__(self, cases: list[Case]) -> None:
        self.cases = cases
        self.w = [a.w for a in cases]
        self.after = [a.seen.after for a in cases]
        self.first = [a.seen.gradient(0) for a in cases]
        self.last = [a.seen.gradient(-1) for a in cases]
        self.first_point = [a.seen.points[0] for a in cases]
        self.last_point = [a.seen.last for a in cases]

    @property
    def base(self) -> Base | None:
        """The base optimizer, if it is known in every step."""
        return self.cases[0].seen.base.base if all(a.seen.base.base for a in self.cases) else None

    @property
    def drawn(self) -> bool:
        """Whether the first gradients were taken elsewhere than at w."""
        return any((p != w).any() for p, w in zip(self.first_point, self.w))


def gradients(fed: Fed) -> Iterator[Option]:
    """What is used as the gradient."""
    yield Option("g", (), fed.last)
    if any(len(a.seen.points) > 1 for a in fed.cases):
        yield Option("g0", ("update.uses-first-gradient",), fed.first)
        total = [a + b for a, b in zip(fed.first, fed.last)]
        yield Option("g0 + g", ("update.gradients-added",), total)
        yield Option("(g0 + g) / 2", ("update.gradients-averaged",), [0.5 * v for v in total])
    yield Option("-g", ("update.ascends",), [-v for v in fed.last])
    stale = ("update.stale-gradient",)
    none_yet = [np.zeros_like(fed.last[0]), *fed.last[:-1]]
    yield Option("the last step's g", stale, none_yet)
    own_first = [fed.last[0], *fed.last[:-1]]
    yield Option("the last step's g, in the first step g", stale, own_first)


NOT_UNDONE = ("restore.not-undone",)


def starts(fed: Fed) -> Iterator[Option]:
    """Where the base step starts from."""
    yield Option("w", (), fed.w)
    yield Option("w + eps", NOT_UNDONE, fed.last_point)
    undone = ("restore.undone-twice",)
    yield Option("w - eps", undone, [2 * w - q for w, q in zip(fed.w, fed.last_point)])
    if len(fed.w) > 1:
        older = [fed.w[0], *fed.w[:-1]]
        yield Option("the weights of the step before", ("restore.older-weights",), older)
        first = [fed.w[0]] * len(fed.w)
        yield Option("the first step's weights", ("restore.older-weights",), first)
    aliased = [q - g for q, g in zip(fed.last_point, fed.last)]
    yield Option("w + eps - g, as where eps is the gradient's own memory", NOT_UNDONE, aliased)
    for with_draw in (False, True) if fed.drawn else (False,):
        yield Option("w + eps - eps'", ("restore.recomputed",), recomputed(fed, with_draw))
    for label, points in recomputed_as_asam(fed):
        yield Option(label, ("restore.recomputed",), points)
    if fed.drawn:
        draws = [p - w for p, w in zip(fed.first_point, fed.w)]
        removed = ("noise.not-removed",)
        yield Option("w + D", removed, fed.first_point)
        yield Option("w - D", removed, [w - d for w, d in zip(fed.w, draws)])
        again = [w + d - a.regenerated for a, w, d in zip(fed.cases, fed.w, draws)]
        yield Option("w + D - D', drawn again at w + D", removed, again)
        fresh = [
            q - a.rho * a.own / np.linalg.norm(a.own) for a, q in zip(fed.cases, fed.last_point)
        ]
        yield Option("w + D - another draw", removed, fresh)
        kept = ("restore.not-undone", "noise.not-removed")
        yield Option("w + eps + D", kept, [q + d for q, d in zip(fed.last_point, draws)])
        yield Option("w + eps - D", undone, [q - d for q, d in zip(fed.last_point, draws)])


def recomputed(fed: Fed, with_draw: bool) -> list[Vector]:
    """The perturbed weights less an eps that was computed from the second gradient."""
    points = []
    for a, g in zip(fed.cases, fed.last):
        v = a.hyper.lam * g + a.draw if with_draw else g
        points.append(a.seen.last - a.rho * v / (np.linalg.norm(v) + 1e-300))
    return points


def recomputed_as_asam(fed: Fed) -> Iterator[tuple[str, list[Vector]]]:
    """The same where eps was ASAM's, in its reading: T of the weights as they were, or are now."""
    reading = None if fed.drawn else reading_of_t(fed.cases)
    if reading is None:
        return
    for place, of in (("w", lambda a: a.w), ("w + eps", lambda a: a.seen.last)):
        points = []
        for a, g in zip(fed.cases, fed.last):
            reach = reading(a, of(a))
            size = np.linalg.norm(reach * g) + 1e-300
            points.append(a.seen.last - a.rho * reach**2 * g / size)
        yield f"w + eps - eps', with T of {place}", points


def reading_of_t(cases: list[Case]) -> Callable[[Case, Vector], Vector] | None:
    """ASAM's T of any weights, in the reading in which eps goes along T^2 g0; None if in none."""
    for eta, biases in itertools.product((True, False), (True, False)):

        def reach(a: Case, w: Vector, eta: bool = eta, biases: bool = biases) -> Vector:
            size = np.abs(w) + (a.hyper.eta if eta else 0.0)
            return size if biases else np.where(a.problem.one_axis, 1.0, size)

        along = [(a.eps, reach(a, a.w) ** 2 * a.first) for a in cases]
        if all(u @ v > (1 - 1e-9) * np.linalg.norm(u) * np.linalg.norm(v) for u, v in along):
            return reach
    return None
