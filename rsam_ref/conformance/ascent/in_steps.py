"""Slips of the ascent in some steps, where the others are as they should be."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, norm
from rsam_ref.conformance.ascent.judge import explanations, judge_ascent
from rsam_ref.conformance.hypotheses import CLOSE, EXACT, in_steps

Found = tuple[str, dict[str, Any]]

FEWEST = 3
"""So many steps at first must be right where fewer than half are."""


def judge_by_step(
    cases: list[Case], algorithm: str, noisy: bool, tolerance: float = EXACT
) -> list[Found] | None:
    """What some of the steps do wrong, and which; None where most are wrong from the start."""
    own = next(explanations(cases, algorithm, noisy))
    limit = max(CLOSE, tolerance)

    def fits(a: Case) -> bool:
        with np.errstate(all="ignore"):
            return bool(norm(own.predict(a) - a.eps) <= limit * norm(a.eps))

    usual = [fits(a) for a in cases]
    if all(usual) or not (2 * sum(usual) >= len(cases) or all(usual[:FEWEST])):
        return None
    wrong = [a for a, right in zip(cases, usual) if not right]
    when = {"when": in_steps([a.seen.number for a in wrong], cases[-1].seen.number)}
    if all(not a.eps.any() for a in wrong):
        return [("ascent.missing", {**when, "||eps||": 0.0})]
    if all(a.before is None for a in wrong):
        return None  # what remembers has nothing to remember yet, and cannot be told
    verdict = judge_ascent(wrong, algorithm, noisy, tolerance)
    if verdict.best is None:
        return None
    return [(code, {**when, "there": verdict.best.label}) for code in verdict.best.codes]
