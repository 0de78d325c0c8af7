"""Ascents that no combination of a direction, a norm and a radius explains, in the order of trust.

What fits exactly comes first: a plane, a memory, a factor for every weight. What can only look
right, random numbers, comes last.
"""

from __future__ import annotations

from collections.abc import Callable

from rsam_ref.conformance.ascent.case import Case, Vector, norm
from rsam_ref.conformance.ascent.directions import reaches, stretched
from rsam_ref.conformance.ascent.elementwise import judge_factors
from rsam_ref.conformance.ascent.groups import judge_groups
from rsam_ref.conformance.ascent.hidden import (
    bayesian,
    hidden_draw,
    noisy_gradient,
    random_perturbation,
)
from rsam_ref.conformance.ascent.history import judge_memory
from rsam_ref.conformance.ascent.length import Found
from rsam_ref.conformance.ascent.plane import judge_proportion


def judge_others(
    cases: list[Case], asked: str, noisy: bool, tolerance: float
) -> list[Found] | None:
    """What is found of an ascent that `judge_ascent` and `judge_direction` do not know."""
    if noisy and (evidence := bayesian(cases)):
        return [("algorithm.bayesian-sam", evidence)]
    if noisy and (found := judge_proportion(cases, tolerance)):
        return found
    if found := judge_memory(cases, noisy, tolerance):
        return found
    vector, measured = _asam(cases) if asked == "asam" and not noisy else (_own, _own)
    if found := judge_groups(cases, vector, measured, tolerance):
        return found
    if found := judge_factors(cases, "rsam" if noisy else asked, _own, tolerance):
        return found
    if not noisy and (evidence := random_perturbation(cases)):
        return [("algorithm.rwp", evidence)]
    if asked == "rsam" and (hidden := hidden_draw(cases, noisy)):
        return [hidden]
    if not noisy and (evidence := noisy_gradient(cases)):
        return [("ascent.noisy-gradient", evidence)]
    return None


def _asam(cases: list[Case]) -> tuple[Callable[[Case], Vector], Callable[[Case], Vector]]:
    """T^2 g0 and T g0, in the reading of T that makes every tensor's eps go along the first."""
    for _, _, reach in reaches():
        if all(_along_by_tensor(a, stretched(reach, 2)(a)) for a in cases):
            return stretched(reach, 2), stretched(reach, 1)
    return _own, _own


def _along_by_tensor(a: Case, v: Vector) -> bool:
    return all(
        a.eps[at] @ v[at] > (1 - 1e-9) * norm(a.eps[at]) * norm(v[at]) for at in a.problem.slices
    )


def _own(a: Case) -> Vector:
    return a.own
