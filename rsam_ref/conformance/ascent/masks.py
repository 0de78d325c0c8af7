"""Whole tensors that are perturbed in some steps and stay in others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector
from rsam_ref.conformance.ascent.directions import Direction

MASKED = ("ascent.masked",)


def masked_tensors(cases: list[Case]) -> np.ndarray | None:
    """Which tensors move in which steps, (steps, tensors); None where they are always the same."""
    slices = cases[0].problem.slices
    moves = np.array([[bool(a.eps[at].any()) for at in slices] for a in cases])
    changes = moves.any(axis=0) & ~moves.all(axis=0)
    return moves if changes.any() else None


def now_and_then_directions(cases: list[Case], own: Direction) -> Iterator[Direction]:
    """The own direction in the tensors that move in this step, where these are others each time."""
    if masked_tensors(cases) is None:
        return
    whole = own.measured or own.vector

    def here(f: Callable[[Case], Vector]) -> Callable[[Case], Vector]:
        return lambda a: np.where(_stays(a), 0, f(a))

    for measured, said in ((here(whole), ""), (whole, ", the norm of all")):
        label = f"{own.label} in some tensors{said}"
        yield Direction(label, MASKED, here(own.vector), measured, norms="one")


def _stays(a: Case) -> Vector:
    """The weights (P,) of tensors that are not perturbed."""
    stays = [not a.eps[at].any() for at in a.problem.slices]
    return a.problem.per_tensor(np.array(stays, float)) > 0


def describe_tensors(cases: list[Case]) -> dict[str, Any] | None:
    """Which tensors are perturbed in each step; None where tensors are perturbed in part."""
    moves = masked_tensors(cases)
    if moves is None or any(((a.eps == 0) != _stays(a)).any() for a in cases):
        return None
    count = len(cases[0].problem.slices)
    return {"whole tensors that are perturbed": [f"{int(row.sum())} of {count}" for row in moves]}
