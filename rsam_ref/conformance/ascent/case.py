"""One step's ascent: what was observed, and the measures that explanations are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from rsam_ref.conformance.observe.observer import Seen
from rsam_ref.conformance.observe.problem import Problem

NO_DRAW = 3e-7
"""A first point that is so close to w, relative to its length, is w in float32."""
Vector = np.ndarray


class Case:
    """One step's ascent: from w with the draw D (0 where there is none) to the last point."""

    def __init__(self, problem: Problem, seen: Seen, before: Case | None) -> None:
        self.problem = problem
        self.seen = seen
        self.before = before
        self.w = seen.w
        self.hyper = seen.hyper
        self.draw = seen.points[0] - seen.w
        if np.linalg.norm(self.draw) < NO_DRAW * np.linalg.norm(seen.w):
            self.draw = np.zeros_like(self.draw)
        self.first = seen.gradient(0)
        self.eps = seen.last - seen.w

    @property
    def rho(self) -> float:
        return self.hyper.rho

    @cached_property
    def reach(self) -> Vector:
        """T = |w| + eta, ASAM's measure."""
        return np.abs(self.w) + self.hyper.eta

    @cached_property
    def scale(self) -> Vector:
        """s: the norm of each weight's filter."""
        s = np.empty_like(self.w)
        for at in self.problem.filters():
            s[at] = np.linalg.norm(self.w[at])
        return s

    @cached_property
    def own(self) -> Vector:
        """What should be brought to the radius: lam g0 + D, or g0 where nothing was drawn."""
        return self.hyper.lam * self.first + self.draw if self.draw.any() else self.first

    @cached_property
    def regenerated(self) -> Vector:
        """D drawn once more from its seed, but scaled by the norms of the filters of w + D."""
        again = np.zeros_like(self.w)
        for at in self.problem.filters():
            size = np.linalg.norm(self.w[at]) + 1e-300
            again[at] = self.draw[at] * (np.linalg.norm(self.w[at] + self.draw[at]) / size)
        return again

    @cached_property
    def history(self) -> list[Case]:
        """The steps so far, this one the last."""
        return [*(self.before.history if self.before else []), self]

    def by_tensor(self, measure: Callable[[Vector], float], v: Vector) -> Vector:
        return self.problem.per_tensor([measure(v[at]) for at in self.problem.slices])


def group_rhos(hyper: Any) -> Vector:
    """The two groups' radii in the probe of parameter groups."""
    return np.array([hyper.rho, 0.4 * hyper.rho])


def norm(v: Vector) -> float:
    return float(np.linalg.norm(v)) + 1e-300
