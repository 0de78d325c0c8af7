"""The draws D = q1 - w of a run's steps, as they were observed, and the kinds of weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rsam_ref.conformance.observe.observer import Seen
from rsam_ref.conformance.observe.problem import Problem

DEVIATIONS = 7.0
"""How many standard errors an estimate may be off: a Gaussian's is further off once in 10^11."""

Found = tuple[str, dict[str, Any]]


@dataclass
class Draws:
    """The steps in which something was drawn."""

    problem: Problem
    steps: list[Seen]
    d: np.ndarray
    """(steps, P)."""

    @cached_property
    def moved(self) -> np.ndarray:
        """Which weights get noise at all: (P,) of bool."""
        return np.asarray(self.d.any(axis=0))

    @cached_property
    def unscaled(self) -> np.ndarray:
        """D over the norm of each weight's filter: z times sigma, if the rule is right."""
        return self.d / np.stack([filter_norms(self.problem, seen.w) for seen in self.steps])

    @cached_property
    def kinds(self) -> dict[str, np.ndarray]:
        """The weights (P,) of each kind, where any of them moves."""
        axes = np.repeat([len(shape) for shape in self.problem.shapes], self.problem.sizes)
        names = {1: "1-D parameters", 2: "matrices", 4: "convolutions"}
        found = {}
        for n in sorted(set(axes.tolist()), reverse=True):
            here = (axes == n) & self.moved
            if here.any():
                found[names.get(n, f"{n}-D weights")] = here
        return found


def filter_norms(problem: Problem, w: np.ndarray) -> np.ndarray:
    """s: the norm of each weight's filter, (P,)."""
    s = np.empty_like(w)
    for at in problem.filters():
        s[at] = np.linalg.norm(w[at])
    return s + 1e-300


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-300))
