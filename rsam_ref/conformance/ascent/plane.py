"""Whether eps lies in the plane of g0 and D, in another proportion than lam, and in which."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm
from rsam_ref.conformance.ascent.length import STEADY, Found, judge_length


def judge_proportion(cases: list[Case], tolerance: float) -> list[Found] | None:
    """None where eps is not in that plane."""
    weights = []
    for a in cases:
        plane = np.stack([a.first, a.draw], axis=1)
        found, *_ = np.linalg.lstsq(plane, a.eps, rcond=None)
        rest = norm(plane @ found - a.eps) / norm(a.eps)
        if rest > max(1e-6, tolerance) or found[1] == 0:
            return None
        weights.append(float(found[0] / found[1]))
    proportions = dict(zip([a.seen.number for a in cases], weights))
    code, evidence = _law(cases, np.array(weights), max(1e-4, tolerance))
    result: list[Found] = [(code, evidence)]
    ratios = np.array([norm(a.eps) / a.hyper.rho for a in cases])
    if np.abs(ratios - 1).max() > max(STEADY, tolerance):
        direction = lambda a: proportions[a.seen.number] * a.first + a.draw
        length = judge_length(cases, False, direction, None, tolerance)
        lawless = code == "direction.wrong-weights" and not evidence.keys() & {"a", POWER}
        if length[0] != NO_LAW or not lawless:
            result.append(length)
        elif (beside := _draw_beside(cases, max(1e-4, tolerance))) is not None:
            evidence["eps"] = f"rho a / ||a|| {beside:+.4g} D"
    return result


NO_LAW = "ascent.radius-scheduled"
"""What a length is called that follows nothing. Where the proportion does not either, that is one
cause, and not of the radius.
"""
POWER = "g0 is weighed by lam to the"


def _draw_beside(cases: list[Case], exact: float) -> float | None:
    """c, where eps = rho a / ||a|| + c D with one c in all steps."""
    shares = []
    for a in cases:
        own = a.hyper.lam * a.first + a.draw
        rest = a.eps - a.hyper.rho * own / norm(own)
        c = float(rest @ a.draw) / float(a.draw @ a.draw)
        if norm(rest - c * a.draw) > exact * norm(a.eps):
            return None
        shares.append(c)
    steady = np.ptp(shares) < exact * np.abs(shares).max()
    return float(np.mean(shares)) if steady else None


def _law(cases: list[Case], p: Vector, exact: float) -> Found:
    lams = np.array([a.hyper.lam for a in cases])
    sizes = np.array([norm(a.first) for a in cases])
    draws = np.array([norm(a.draw) for a in cases])
    evidence: dict[str, Any] = {
        "weight of g0 / weight of D": [round(float(x), 4) for x in p],
        "lam": lams.tolist(),
    }

    def steady(v: Vector) -> bool:
        return bool(np.ptp(v) < exact * np.abs(v).max())

    lam_known = not steady(lams)
    if steady(p) and lam_known:
        return "direction.lam-ignored", evidence
    if steady(p / lams):
        return "direction.wrong-weights", {"a": f"{p[0] / lams[0]:.4g} lam g0 + D", **evidence}
    unit = "direction.normalised-first"
    for label, v in {
        "g0 is brought to length": p * sizes / lams,
        "lam is ignored and g0 is brought to length": p * sizes,
        "g0 is brought to a multiple of ||D||": p * sizes / lams / draws,
        "lam is ignored and g0 is brought to a multiple of ||D||": p * sizes / draws,
    }.items():
        if steady(v) and not steady(sizes):
            return unit, {label: float(v[0]), **evidence}
    cut = p / lams < 1 - exact
    if 0 < cut.sum() < len(p) and steady((p * sizes / lams)[cut]):
        whole = np.abs(p / lams - 1)[~cut].max() < exact
        if whole:
            return "direction.clipped-first", {
                "g0 is cut to length": float((p * sizes / lams)[cut][0]),
                **evidence,
            }
    if len(set(lams.tolist())) > 1 and (p > 0).all():
        power, at = np.polyfit(np.log(lams), np.log(p), 1)
        if np.abs(power * np.log(lams) + at - np.log(p)).max() < exact:
            return "direction.wrong-weights", {
                POWER: float(power),
                **evidence,
            }
    return "direction.wrong-weights", evidence
