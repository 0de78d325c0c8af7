"""Several ascent steps: k-step SAM, with one radius or another, from one place or another."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, norm
from rsam_ref.conformance.ascent.length import Found

EXACT = 1e-6


def several_steps(cases: list[Case], tolerance: float) -> list[Found] | dict[str, Any]:
    """What is found of more than one ascent step; or how far each reading is from the points."""
    k = len(cases[0].seen.points) - 1
    errors: dict[str, float] = {}
    for from_w in (False, True):
        for label, share in (("rho / k", 1 / k), ("rho", 1.0)):
            name = f"{label} each{', every one from w' if from_w else ''}"
            errors[name] = max(_error(a, share * a.hyper.rho, from_w) for a in cases)
    evidence: dict[str, Any] = {"ascent steps": k, "gradients a step": k + 1}
    best = min(errors, key=lambda name: errors[name])
    if errors[best] > max(tolerance, EXACT):
        return {**evidence, "errors as k-step SAM": str(errors)}
    found: list[Found] = [("algorithm.k-step-sam", {**evidence, "radius": best})]
    if best.startswith("rho each") and "from w" not in best:
        found.append(("ascent.radius-each-step", {**evidence, "error": errors[best]}))
    return found


def _error(a: Case, radius: float, from_w: bool) -> float:
    at, worst = a.w.copy(), 0.0
    for i in range(len(a.seen.points) - 1):
        g = a.seen.gradient(i)
        at = (a.w if from_w else at) + radius * g / (norm(g) + 1e-12)
        worst = max(worst, float(np.linalg.norm(at - a.seen.points[i + 1])) / a.hyper.rho)
    return worst
