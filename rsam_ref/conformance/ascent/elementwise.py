"""Ascents that scale the gradient weight by weight, filter by filter or tensor by tensor.

The factor eps / g0 of every weight is seen; here it is told what it follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm
from rsam_ref.conformance.ascent.length import STEADY, Found, judge_length

SMALL = 1e-4
"""Weights whose gradient is smaller than this share of its mean say nothing about the factor."""


def judge_factors(
    cases: list[Case], algorithm: str, own: Callable[[Case], Vector], tolerance: float
) -> list[Found] | None:
    """``own`` is what should have been brought to the radius: g0, or lam g0 + D."""
    limit = max(1e-6, tolerance)
    for judge in (_clipped_by_value, _clipped_by_filter, _by_blocks, _by_weights, _by_power):
        found = judge(cases, algorithm, own, limit)
        if found:
            return found
    return None


def _factors(a: Case, own: Callable[[Case], Vector]) -> tuple[Vector, Vector]:
    """eps over the direction, and where that is known."""
    v = own(a)
    known = np.abs(v) > SMALL * np.abs(v).mean()
    return np.where(known, a.eps / np.where(known, v, 1.0), np.nan), known


def _even(v: Vector, limit: float) -> bool:
    return bool(v.size > 0 and np.ptp(v) < limit * np.abs(v).max())


def _clipped_by_value(
    cases: list[Case], algorithm: str, own: Callable[[Case], Vector], limit: float
) -> list[Found] | None:
    """c clip(v, -k, k): one factor below k, one size of eps above."""
    bounds = []
    for a in cases:
        v, size = own(a), np.abs(a.eps)
        cut = size > size.max() * (1 - limit)
        inside, known = _factors(a, own)
        free = known & ~cut
        if not free.any() or not _even(inside[free], limit) or (inside[free] <= 0).any():
            return None
        bound = size.max() / float(inside[free].mean())
        if (np.abs(v[cut]) < bound * (1 - limit)).any():
            return None
        bounds.append(float(bound) if cut.sum() > 1 else None)
    told = [b for b in bounds if b is not None]
    if len(told) < 2 or not _even(np.array(told), 1e-4):
        return None
    clip = float(np.mean(told))
    found: Found = ("ascent.clipped-gradient", {"every entry is clipped to": clip})
    return [found, *_length(cases, lambda a: np.clip(own(a), -clip, clip), limit)]


def _clipped_by_filter(
    cases: list[Case], algorithm: str, own: Callable[[Case], Vector], limit: float
) -> list[Found] | None:
    """Adaptive clipping: every filter's gradient is cut to k times its weights' norm."""
    factors = [_block_factors(a, own, list(a.problem.filters()), limit) for a in cases]
    bounds: list[float] = []
    vectors = {}
    for a, factor in zip(cases, factors):
        if factor is None or not (factor > 0).all():
            return None
        runs = list(a.problem.filters())
        ratio = factor / factor.max()
        cut = ratio < 1 - limit
        if not cut.any() or cut.all():
            return None
        v = own(a)
        sizes = np.array([max(norm(a.w[at]), 1e-3) / norm(v[at]) for at in runs])
        bounds += (ratio / sizes)[cut].tolist()
        vectors[a.seen.number] = np.concatenate([r * v[at] for r, at in zip(ratio, runs)])
    if not _even(np.array(bounds), 1e-3):
        return None
    evidence = {"every filter's gradient is cut to its weights' norm times": bounds[0]}
    found: Found = ("ascent.clipped-gradient", evidence)
    return [found, *_length(cases, lambda a: vectors[a.seen.number], limit)]


def _block_factors(
    a: Case, own: Callable[[Case], Vector], runs: list[slice], limit: float
) -> Vector | None:
    """The one factor of every run of weights; None where it is not one."""
    factors, known = _factors(a, own)
    found = []
    for at in runs:
        here = factors[at][known[at]]
        if here.size and not _even(here, limit):
            return None
        found.append(float(here.mean()) if here.size else np.nan)
    return np.array(found)


def _by_blocks(
    cases: list[Case], algorithm: str, own: Callable[[Case], Vector], limit: float
) -> list[Found] | None:
    """One factor a tensor, or a filter: what does it follow?"""
    for what, runs in (
        ("tensor", cases[0].problem.slices),
        ("filter", list(cases[0].problem.filters())),
    ):
        factors = [f for a in cases if (f := _block_factors(a, own, runs, limit)) is not None]
        if len(factors) < len(cases):
            continue
        for label, measure in _measures().items():
            spread = []
            for a, factor in zip(cases, factors):
                v = own(a)
                wanted = np.array([measure(a.w[at], v[at]) for at in runs])
                spread.append(np.ptp(np.log(np.abs(factor / wanted))))
            if max(spread) < 1e-4:
                return [("ascent.rescaled-gradient", {f"each {what}'s gradient times": label})]
        named = [cases[0].problem.names[i] for i in range(len(runs))] if what == "tensor" else []
        first = factors[0]
        relative = [round(float(x), 4) for x in first / np.nanmax(np.abs(first))][:12]
        evidence: dict[str, Any] = {f"factor of each {what}, over the largest": relative}
        if named:
            evidence["tensors"] = ", ".join(named[:12])
        return [("ascent.rescaled-gradient", evidence)]
    return None


def _measures() -> dict[str, Callable[[Vector, Vector], float]]:
    return {
        "||w|| / ||g||": lambda w, g: norm(w) / norm(g),
        "||w||": lambda w, g: norm(w),
        "||w||^2": lambda w, g: norm(w) ** 2,
        "1 / sqrt(||g||)": lambda w, g: norm(g) ** -0.5,
        "1 / ||w||": lambda w, g: 1 / norm(w),
        "1 / the root mean square of g": lambda w, g: w.size**0.5 / norm(g),
        "the root of its size": lambda w, g: float(w.size) ** 0.5,
        "1 / the root of its size": lambda w, g: float(w.size) ** -0.5,
    }


def _by_weights(
    cases: list[Case], algorithm: str, own: Callable[[Case], Vector], limit: float
) -> list[Found] | None:
    """(|w| + eta) to some power, eta being told: ASAM's T, or what is taken for it."""
    if algorithm == "rsam":
        return None
    forms: dict[str, tuple[str, Callable[[Vector], Vector], Callable[[Vector], Vector]]] = {
        "T^2, T = |w| + eta": (
            "ascent.asam-reading" if algorithm == "asam" else "algorithm.asam",
            lambda e: np.sqrt(np.abs(e)),
            np.abs,
        ),
        "T = |w| + eta, once": ("ascent.wrong-scaling", lambda e: e, np.abs),
        "w^2 + eta": ("ascent.wrong-scaling", lambda e: e, np.square),
        "sqrt(|w|) + eta": ("ascent.wrong-scaling", lambda e: e, lambda w: np.sqrt(np.abs(w))),
    }
    for label, (code, root, of) in forms.items():
        fits = [_line(a, own, root, of, limit) for a in cases]
        known = {a.seen.number: fit for a, fit in zip(cases, fits) if fit is not None}
        etas = [eta for _, eta in known.values()]
        if len(known) < len(cases) or np.ptp(etas) > 1e-3 * (abs(etas[0]) + 1e-3):
            continue
        evidence = {"the gradient times": label, "eta": round(float(np.mean(etas)), 6)}
        biases = _biases(cases, own, known, root, of)
        found: Found = (code, {**evidence, "biases": biases})
        if biases == "not perturbed":
            return [("ascent.biases-left-out", {**evidence, "biases": biases})]
        if biases not in ("the same", "T = 1"):
            found = ("ascent.wrong-scaling", {**evidence, "biases": biases})
        return [found, *_length_of_stretched(cases, own, known, "T^2" in label, limit)]
    return None


def _biases(
    cases: list[Case],
    own: Callable[[Case], Vector],
    lines: dict[int, tuple[float, float]],
    root: Callable[[Vector], Vector],
    of: Callable[[Vector], Vector],
) -> str:
    """What is done with the 1-D parameters, where that is known of all others."""
    told = set()
    for a in cases:
        slope, eta = lines[a.seen.number]
        factors, known = _factors(a, own)
        here = known & a.problem.one_axis
        if not here.any():
            return "the same"
        y = root(factors[here]) / slope
        if not y.any():
            told.add("not perturbed")
        elif np.abs(y - (of(a.w[here]) + eta)).max() < 1e-4 * np.abs(y).max():
            told.add("the same")
        else:
            told.add("T = 1" if np.abs(y - 1).max() < 1e-4 else "scaled in another way")
    return told.pop() if len(told) == 1 else "scaled in another way"


def _length_of_stretched(
    cases: list[Case],
    own: Callable[[Case], Vector],
    lines: dict[int, tuple[float, float]],
    twice: bool,
    limit: float,
) -> list[Found]:
    """The length of eps, measured as ASAM does: T^2 g by the norm of T g."""

    def vector(a: Case) -> Vector:
        return a.eps / lines[a.seen.number][0] ** (2 if twice else 1)

    def measured(a: Case) -> Vector:
        return np.sqrt(np.abs(a.eps * own(a))) / lines[a.seen.number][0]

    return _length(cases, vector, limit, measured if twice else None)


def _line(
    a: Case,
    own: Callable[[Case], Vector],
    root: Callable[[Vector], Vector],
    of: Callable[[Vector], Vector],
    limit: float,
) -> tuple[float, float] | None:
    """c and eta, if root(eps / v) = c (of(w) + eta) for all weights with more than one axis."""
    factors, known = _factors(a, own)
    here = known & ~a.problem.one_axis
    x, y = of(a.w[here]), root(factors[here])
    slope, at = np.polyfit(x, y, 1)
    if slope <= 0 or np.abs(slope * x + at - y).max() > limit * np.abs(y).max():
        return None
    return float(slope), float(at / slope)


def _by_power(
    cases: list[Case], algorithm: str, own: Callable[[Case], Vector], limit: float
) -> list[Found] | None:
    """sign(v) |v|^p."""
    powers = []
    for a in cases:
        factors, known = _factors(a, own)
        if (factors[known] <= 0).any():
            return None
        x, y = np.log(np.abs(own(a)[known])), np.log(factors[known])
        slope, at = np.polyfit(x, y, 1)
        if np.abs(slope * x + at - y).max() > 1e-4:
            return None
        powers.append(1 + float(slope))
    if np.ptp(powers) > 1e-3:
        return None
    if abs(powers[0]) < 1e-4:
        return [("ascent.sign", {"power of |g|": 0.0})]
    return [("ascent.rescaled-gradient", {"every entry to the power of": round(powers[0], 4)})]


def _length(
    cases: list[Case],
    vector: Callable[[Case], Vector],
    limit: float,
    measured: Callable[[Case], Vector] | None = None,
) -> list[Found]:
    """What is wrong with the length besides, if anything is."""
    for a in cases:
        v = vector(a)
        wanted = a.hyper.rho * norm(v) / norm(measured(a) if measured else v)
        if abs(norm(a.eps) / wanted - 1) > max(STEADY, limit):
            return [judge_length(cases, False, vector, measured, limit)]
    return []
