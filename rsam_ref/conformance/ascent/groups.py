"""Tensors that share a norm: an own loop over groups of parameters, each brought to the radius.

The groups are not known. But the tensors of one have one factor eps / v in every step, and that
factor follows the norm of just those tensors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm
from rsam_ref.conformance.ascent.length import Found, judge_length

Members = list[int]
"""The tensors of a group, by number."""


def judge_groups(
    cases: list[Case],
    vector: Callable[[Case], Vector],
    measured: Callable[[Case], Vector],
    tolerance: float,
) -> list[Found] | None:
    """``vector`` should be divided by the norm of ``measured`` over all tensors together."""
    limit = max(1e-6, tolerance)
    factors = [_factors(a, vector(a), limit) for a in cases]
    if any(f is None for f in factors):
        return None
    groups = _alike(np.stack([f for f in factors if f is not None]), limit)
    if not 1 < len(groups) < len(cases[0].problem.slices):
        return None
    sizes = np.array([[_size(a, measured(a), members) for members in groups] for a in cases])
    of_groups = np.array([[f[m[0]] for m in groups] for f in factors if f is not None])
    radii = of_groups * sizes / np.array([[a.hyper.rho] for a in cases])
    if np.ptp(radii, axis=1).max() > limit * np.abs(radii).max():
        return None
    names = cases[0].problem.names
    told = " / ".join(", ".join(names[i] for i in members) for members in groups)
    found: list[Found] = [("ascent.norm-per-group", {"each by its own norm": told})]
    if np.abs(radii - 1).max() > 1e-5:

        def whole(a: Case) -> Vector:
            parts = [_part(a, vector(a), m) / _size(a, measured(a), m) for m in groups]
            return np.sum(parts, axis=0)

        found.append(judge_length(cases, False, whole, None, tolerance))
    return found


def _factors(a: Case, v: Vector, limit: float) -> Vector | None:
    """eps / v of each tensor; None where it is not one number."""
    found = []
    for at in a.problem.slices:
        size = norm(v[at])
        factor = float(a.eps[at] @ v[at]) / size**2
        if norm(a.eps[at] - factor * v[at]) > limit * norm(a.eps[at]):
            return None
        found.append(factor)
    return np.array(found)


def _alike(factors: Vector, limit: float) -> list[Members]:
    """Groups of tensors whose factors (steps, tensors) are the same in all steps."""
    groups: list[Members] = []
    for i, column in enumerate(factors.T):
        for members in groups:
            if np.abs(column - factors[:, members[0]]).max() < limit * np.abs(column).max():
                members.append(i)
                break
        else:
            groups.append([i])
    return groups


def _size(a: Case, v: Vector, members: Members) -> float:
    return norm(np.concatenate([v[a.problem.slices[i]] for i in members]))


def _part(a: Case, v: Vector, members: Members) -> Vector:
    """v in these tensors, 0 elsewhere."""
    part = np.zeros_like(v)
    for i in members:
        part[a.problem.slices[i]] = v[a.problem.slices[i]]
    return part
