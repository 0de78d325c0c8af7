"""Judging the base step tensor by tensor: what was restored, and what was moved by which gradient.

A restore that leaves out the biases, or the last group, is right for all other tensors.
"""

from __future__ import annotations

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step import own, sgd
from rsam_ref.conformance.base_step.fed import Fed, starts
from rsam_ref.conformance.hypotheses import CLOSE, EXACT, Hypothesis, Verdict, at_once

Vector = np.ndarray
PARTLY = {"restore.not-undone": "restore.partly", "restore.undone-twice": "restore.partly"}
LEFT_OUT = "update.tensor-left-out"


def judge_tensors(cases: list[Case], tolerance: float = EXACT) -> Verdict:
    """The explanation of each tensor's moves by itself; together they make the verdict's label."""
    fed = Fed(cases)
    problem = cases[0].problem
    limit = max(tolerance, CLOSE)
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    worst = 0.0
    ways = _ways(fed)
    for name, at in zip(problem.names, problem.slices):
        right = None
        for label, codes, ends in ways:
            error = max(
                float(np.linalg.norm(end[at] - a.seen.after[at]))
                / (float(np.linalg.norm(a.seen.after[at] - a.w[at])) + 1e-300)
                for end, a in zip(ends, cases)
            )
            if error <= limit:
                right = label, codes
                worst = max(worst, error)
                break
        if right is None:
            unmoved = all(np.array_equal(a.seen.after[at], a.w[at]) for a in cases)
            if not unmoved:
                return Verdict(None, np.inf, np.inf)
            right = "not moved", (LEFT_OUT,)
        found[name] = right
    kinds = dict.fromkeys(codes for _, codes in found.values())
    if () not in kinds or len(kinds) < 2:
        return Verdict(None, np.inf, np.inf)
    codes = tuple(dict.fromkeys(PARTLY.get(c, c) for kind in kinds for c in kind))
    told = [
        f"{label}: {', '.join(n for n, way in found.items() if way == (label, kind))}"
        for label, kind in dict.fromkeys(found.values())
        if kind
    ]
    best = Hypothesis(codes, at_once(cases, lambda: fed.after), "; ".join(told))
    return Verdict(best, worst, np.inf, low_precision=worst > tolerance)


def _ways(fed: Fed) -> list[tuple[str, tuple[str, ...], list[Vector]]]:
    """From where and by which gradient a tensor may have been moved, the right way first."""
    ways = [
        (f"{g.label}, {w.label}", (*w.codes, *g.codes), w.value, g.value)
        for g in own.all_gradients(fed)
        for w in starts(fed)
        if not (g.codes and w.codes) and g.codes != ("update.clipped",)
    ]
    m = sgd.Moves(fed.cases, every=True)

    def ends(w: list[Vector], g: list[Vector]) -> list[Vector]:
        if fed.base is not None:
            return own.ends(fed, w, g)
        return list(sgd.simulate(m, g, w, "base", "plain", m.rates))

    ways.sort(key=lambda way: len(way[1]))
    return [(label, codes, ends(w, g)) for label, codes, w, g in ways]
