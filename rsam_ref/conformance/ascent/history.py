"""Ascents that remember: running means of gradients, the velocity, the last perturbation.

eps is written as a sum of vectors of this step and of those before it, with the weights told by
least squares; what fits exactly in every step is then read: a geometric row is a running mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm
from rsam_ref.conformance.ascent.length import STEADY, Found, judge_length

FEWEST = 3
"""So many steps must have one before them."""


def judge_memory(cases: list[Case], noisy: bool, tolerance: float) -> list[Found] | None:
    """What eps is made of besides this step's gradient (and draw); None if that is not known."""
    for judge in (
        _around_older_weights,
        _with_weights,
        _with_last_eps,
        _with_velocity,
        _with_gradients,
    ):
        found = judge(cases, noisy, max(1e-6, tolerance))
        if found:
            return found
    return None


def _around_older_weights(cases: list[Case], noisy: bool, limit: float) -> list[Found] | None:
    """eps as it should point, but from the weights of an earlier step."""
    ages = []
    for a in cases:
        for age, b in enumerate(reversed(a.history)):
            from_there = a.seen.last - b.w
            along = float(from_there @ a.own) / norm(a.own) ** 2
            if along > 0 and norm(from_there - along * a.own) < limit * norm(from_there):
                ages.append(age)
                break
        else:
            return None
    if sum(age > 0 for age in ages) < FEWEST - 1:
        return None
    numbers = list(range(len(ages)))
    if ages == numbers:
        place = "the weights of the first step"
    elif ages[1:] == [1] * (len(ages) - 1):
        place = "the weights of the step before"
    else:
        place = "weights so many steps old: " + ", ".join(map(str, ages))
    return [("ascent.stale-weights", {"eps is added to": place})]


def _weights(
    cases: list[Case],
    noisy: bool,
    parts: Callable[[Case], list[Vector]],
    limit: float,
) -> list[Vector] | None:
    """The weights of the parts in every step, over that of g0 (or of D); None if they do not fit.

    The first part is this step's gradient. What has no step before it is passed over.
    """
    found = []
    for a in cases:
        columns = parts(a)
        if not columns:
            continue
        basis = np.stack([*columns, *([a.draw] if noisy else [])], axis=1)
        sizes = np.linalg.norm(basis, axis=0)
        if (sizes == 0).any():
            return None
        weights, *_ = np.linalg.lstsq(basis / sizes, a.eps, rcond=None)
        if norm(basis / sizes @ weights - a.eps) > limit * norm(a.eps):
            return None
        found.append(weights / sizes)
    return found if len(found) >= FEWEST else None


def _steady(values: list[float], limit: float = 1e-4) -> bool:
    v = np.array(values)
    return bool(np.ptp(v) < limit * np.abs(v).max() + 1e-12)


def _with_length(
    cases: list[Case], found: Found, vectors: dict[int, Vector], tolerance: float
) -> list[Found]:
    """A finding on the direction, and what is wrong with the length besides."""
    judged = [a for a in cases if a.seen.number in vectors]
    ratios = np.array([norm(a.eps) / a.hyper.rho for a in judged])
    if np.abs(ratios - 1).max() < max(STEADY, tolerance):
        return [found]
    of = lambda a: vectors[a.seen.number]
    return [found, judge_length(judged, False, of, None, tolerance)]


def _with_weights(cases: list[Case], noisy: bool, limit: float) -> list[Found] | None:
    """Weight decay inside: g0 + c w, with whatever c."""
    for label, place in (("w", lambda a: a.w), ("w - w of the first step", _moved_since_start)):
        found = _weights(cases, noisy, lambda a, f=place: _both(a.first, f(a)), limit)  # type: ignore[misc]
        if found is None or not _steady([float(x[1] / x[0]) for x in found]):
            continue
        c = float(found[0][1] / found[0][0])
        if abs(c) < 1e-9:
            continue
        wd = cases[0].hyper.weight_decay
        evidence = {"the direction": f"g0 + {c:.4g} ({label})", "weight decay": wd}
        vectors = {a.seen.number: a.first + c * place(a) for a in cases}
        if noisy:
            return [("ascent.decay-inside", evidence)]
        return _with_length(cases, ("ascent.decay-inside", evidence), vectors, limit)
    return None


def _moved_since_start(a: Case) -> Vector:
    return a.w - a.history[0].w


def _both(*parts: Vector) -> list[Vector]:
    return list(parts) if all(part.any() for part in parts) else []


def _with_last_eps(cases: list[Case], noisy: bool, limit: float) -> list[Found] | None:
    """A perturbation that is kept: eps holds a share of the last one's."""
    found = _weights(
        cases, noisy, lambda a: _both(a.first, a.before.eps) if a.before else [], limit
    )
    if found is None or not _steady([float(x[1]) for x in found]):
        return None
    share = float(found[0][1])
    if abs(share) < 1e-6:
        return None
    evidence = {"share of the last eps that is in it": share}
    return [("ascent.kept-perturbation", evidence)]


def _with_velocity(cases: list[Case], noisy: bool, limit: float) -> list[Found] | None:
    """The way that the weights came, from the step before: the velocity, or older weights."""

    def parts(a: Case) -> list[Vector]:
        return _both(a.first, a.before.w - a.w) if a.before else []

    found = _weights(cases, noisy, parts, limit)
    if found is None or max(abs(x[1]) for x in found) < 1e-9:
        return None
    if _steady([float(x[1]) for x in found]) and abs(found[0][1] - 1) < 1e-4:
        return [("ascent.stale-weights", {"eps is added to": "the weights of the step before"})]
    later = [a for a in cases if a.before is not None]
    betas = [
        float(x[1] * a.before.hyper.lr / x[0]) for a, x in zip(later, found) if a.before is not None
    ]
    evidence: dict[str, Any] = {"weight of the velocity / weight of g0": _rounded(betas)}
    return [("ascent.momentum-direction", evidence)]


def _rounded(values: list[float]) -> list[float]:
    return [round(v, 4) for v in values]


def _with_gradients(cases: list[Case], noisy: bool, limit: float) -> list[Found] | None:
    """The first gradients of all steps so far, or this one's and the last ones of those before."""
    seconds = _weights(
        cases,
        noisy,
        lambda a: [a.first, *(b.seen.gradient(-1) for b in reversed(a.history[:-1]))],
        limit,
    )
    firsts = _weights(cases, noisy, lambda a: [b.first for b in reversed(a.history)], limit)
    if firsts is not None:
        return _read_means(cases, firsts, noisy, limit)
    if seconds is not None:
        rows = [_rounded((x[1 : len(a.history)] / x[0]).tolist()) for a, x in zip(cases, seconds)]
        return [("ascent.momentum-direction", {"weights of the last steps' gradients": rows[-1]})]
    return None


def _read_means(
    cases: list[Case], weights: list[Vector], noisy: bool, limit: float
) -> list[Found] | None:
    """From the weights of g0 of this step, the last, the one before ... to the name of the mean.

    The first step's weight is left out: running means begin in several ways.
    """
    rows = [x[: len(a.history)] / x[0] for a, x in zip(cases, weights)]
    sizes = [np.array([norm(b.first) for b in reversed(a.history)]) for a in cases]
    scaled = [row * size / size[0] for row, size in zip(rows, sizes)]
    vectors = {
        a.seen.number: sum(
            (c * b.first for c, b in zip(row, reversed(a.history))), np.zeros_like(a.w)
        )
        for a, row in zip(cases, rows)
    }
    for those, of in ((rows, "first gradients"), (scaled, "first gradients of length 1")):
        inner = [row[:-1] for row in those if len(row) > 2]
        last = [float(row[1]) for row in inner]
        if not last or not _steady(last) or abs(last[0]) < 1e-6:
            continue
        ratios = [float(row[i + 1] / row[i]) for row in inner for i in range(1, len(row) - 1)]
        if ratios and not _steady(ratios, 1e-3):
            continue
        keeps = ratios[0] if ratios else last[0]
        if last[0] > 0 and abs(keeps - last[0]) < 1e-3:
            evidence = {"running mean of": of, "keeps": round(last[0], 5)}
            named = "ascent.momentum-direction" if noisy or of != "first gradients" else VASSO
        elif last[0] < 0 and 0 < keeps < 1 and of == "first gradients":
            share = -last[0]
            evidence = {
                "keeps": round(keeps, 5),
                "sigma": round(share / (1 - keeps) / (keeps + share), 4),
                "sigma, if this step is not in the mean yet": round(share / (1 - keeps), 4),
            }
            named = "ascent.momentum-direction" if noisy else "algorithm.friendly-sam"
        else:
            continue
        if noisy or "length 1" in of:
            return [(named, evidence)]
        return _with_length(cases, (named, evidence), vectors, limit)
    if all(abs(row[1:]).max(initial=0.0) < 1e-6 for row in rows):
        return None  # nothing of the steps before is in it
    evidence = {"weights of this and the last steps' g0": _rounded(rows[-1].tolist())}
    return [("ascent.stale-gradient", evidence)]


VASSO = "algorithm.vasso"
