"""Base steps with their state, which take one step after the other: SGD by formula, a base that is
replayed, a published rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step.families import Decaying

Vector = np.ndarray
Taken = tuple[Case, Vector, Vector]
"""A step, and the weights and the gradient (P,) that it was given."""


class Rule:
    """A base step with its state. ``fed`` is what it took in so far: weights and gradient (P,)."""

    label = ""

    def __init__(self) -> None:
        self.begin([])

    def begin(self, fed: list[Taken]) -> None:
        """Begin anew, and take these steps."""
        self.fed: list[Taken] = []
        self._reset()
        for a, w, g in fed:
            self.step(a, w, g)

    def step(self, a: Case, w: Vector, g: Vector) -> Vector:
        """Where the step ``a`` ends, from w with g: (P,)."""
        self.fed.append((a, w, g))
        return self._step(a, w, g)

    def _reset(self) -> None:
        raise NotImplementedError

    def _step(self, a: Case, w: Vector, g: Vector) -> Vector:
        raise NotImplementedError


class Sgd(Rule):
    """SGD by its formula, with lr outside of the velocity or inside."""

    label = "SGD"

    def __init__(self, lr_inside: bool = False) -> None:
        self.lr_inside = lr_inside
        super().__init__()

    def _reset(self) -> None:
        self.velocity: Any = 0.0

    def _step(self, a: Case, w: Vector, g: Vector) -> Vector:
        h = a.hyper
        inside, outside = (h.lr, 1.0) if self.lr_inside else (1.0, h.lr)
        self.velocity = h.momentum * self.velocity + inside * (g + h.weight_decay * w)
        return np.asarray(w - outside * self.velocity)


class HeavyBall(Rule):
    """SGD whose momentum is taken from the last move of the weights, as they were seen."""

    label = "SGD"

    def _reset(self) -> None:
        self.last: Vector | None = None

    def _step(self, a: Case, w: Vector, g: Vector) -> Vector:
        moved = 0.0 if self.last is None else a.w - self.last
        self.last = a.w
        return np.asarray(
            w - a.hyper.lr * (g + a.hyper.weight_decay * w) + a.hyper.momentum * moved
        )


class Replayed(Rule):
    """The implementation's own base optimizer, on a shadow."""

    def __init__(self, base: Any) -> None:
        self.base, self.label = base, base.name
        super().__init__()

    def _reset(self) -> None:
        self.shadow = self.base.shadow()

    def _step(self, a: Case, w: Vector, g: Vector) -> Vector:
        return np.asarray(self.shadow.step(w, g, a.seen.base.settings))


class Published(Rule):
    """A rule that the explanation of another run names."""

    def __init__(self, rule: Decaying) -> None:
        self.rule, self.label = rule, rule.label
        super().__init__()

    def _reset(self) -> None:
        pass

    def _step(self, a: Case, w: Vector, g: Vector) -> Vector:
        cases, places, taken = zip(*self.fed)
        return self.rule.ends(places, taken, [c.hyper.lr for c in cases])[-1]
