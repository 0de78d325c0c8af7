"""Judging the ascent: which eps leads from w to where the second gradient is taken.

Every explanation is a direction, a norm that divides it, a radius, and a place to start from; each
of the four may depart from the algorithm on its own, so that several mistakes are told at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector
from rsam_ref.conformance.ascent.directions import (
    STALE,
    Direction,
    asam_directions,
    left_out_directions,
    named_directions,
    rsam_directions,
    sam_directions,
)
from rsam_ref.conformance.ascent.length import (
    Found,
    in_each_tensors_norm,
    in_the_norm,
    judge_length,
    lengths_of,
)
from rsam_ref.conformance.ascent.masks import now_and_then_directions
from rsam_ref.conformance.ascent.norms import norms, radii
from rsam_ref.conformance.hypotheses import EXACT, Hypothesis, Verdict, choose

FROM_NOISE = ("direction.measured-from-noise",)


def directions_of(cases: list[Case], algorithm: str, noisy: bool) -> list[Direction]:
    """All that eps may point along in these steps."""
    if noisy:
        known = [*rsam_directions()]
    elif algorithm == "asam":
        known = [*asam_directions()]
    else:
        known = [*sam_directions(), *named_directions()]
    return [
        *known,
        *left_out_directions(cases, known[0]),
        *now_and_then_directions(cases, known[0]),
    ]


def explanations(cases: list[Case], algorithm: str, noisy: bool) -> Iterator[Hypothesis]:
    """All combinations of direction, norm, radius and start."""
    directions = directions_of(cases, algorithm, noisy)
    starts: list[tuple[str, tuple[str, ...], Callable[[Case], Any]]] = [("", (), lambda a: 0.0)]
    if noisy:
        starts.append((", from w + D", FROM_NOISE, lambda a: a.draw))
        removed = ("noise.not-removed",)
        starts.append((", from w + D - D'", removed, lambda a: a.draw - a.regenerated))
    choices = {"all": norms(), "one": norms()[:1], "none": norms()[1:2]}
    for d in directions:
        for norm_label, norm_codes, divisor in choices[d.norms]:
            own = () if d.norms == "none" else norm_codes
            for radius_label, radius_codes, radius in radii():
                for start_label, start_codes, start in starts:
                    codes = (*start_codes, *d.codes, *own, *radius_codes)
                    if start_codes == FROM_NOISE and d.codes == ("algorithm.rsam-gradient",):
                        codes = ("algorithm.rsam-stacked", *own, *radius_codes)

                    def predict(
                        a: Case,
                        d: Direction = d,
                        divisor: Any = divisor,
                        radius: Any = radius,
                        start: Any = start,
                    ) -> Vector:
                        if a.before is None and d.codes[:1] in STALE:
                            return a.eps
                        v = d.vector(a)
                        measured = v if d.measured is None else d.measured(a)
                        return start(a) + radius(a) * v / divisor(a, measured)

                    label = f"{radius_label} ({d.label}) / {norm_label}{start_label}"
                    yield Hypothesis(tuple(dict.fromkeys(codes)), predict, label)


def judge_ascent(
    cases: list[Case], algorithm: str, noisy: bool, tolerance: float = EXACT
) -> Verdict:
    """Which explanation fits the observed eps of all steps."""
    return choose(
        explanations(cases, algorithm, noisy),
        cases,
        lambda a: a.eps,
        lambda a: float(np.linalg.norm(a.eps)),
        tolerance,
    )


def judge_direction(
    cases: list[Case], algorithm: str, noisy: bool, tolerance: float
) -> tuple[Verdict, list[tuple[str, dict[str, Any]]]]:
    """Which direction fits, whatever the length; and all that is found of direction and length."""
    starts: list[tuple[str, ...]] = [(), FROM_NOISE] if noisy else [()]

    def along(a: Case, d: Direction, start: tuple[str, ...]) -> Vector:
        v = d.vector(a)
        eps = a.eps - a.draw if start else a.eps
        if a.before is None and d.codes[:1] in STALE:
            return a.eps
        back = a.draw if start else 0.0
        return back + np.linalg.norm(eps) * v / (np.linalg.norm(v) + 1e-300)

    known = {
        (d.label, start): d for d in directions_of(cases, algorithm, noisy) for start in starts
    }
    verdict = choose(
        [
            Hypothesis((*start, *d.codes), partial(along, d=d, start=start), label)
            for (label, start), d in known.items()
        ],
        cases,
        lambda a: a.eps,
        lambda a: float(np.linalg.norm(a.eps)),
        tolerance,
    )
    if verdict.best is None:
        return verdict, []
    found = [(code, verdict.evidence()) for code in verdict.best.codes]
    start = verdict.best.codes[:1] if verdict.best.codes[:1] in starts else ()
    d = known[verdict.best.label, start]
    judged = [a for a in cases if a.before is not None or d.codes[:1] not in STALE]
    found.append(judge_length(judged, bool(start), d.vector, d.measured, tolerance))
    return verdict, found


def constant_in_norm(
    cases: list[Case],
    algorithm: str,
    noisy: bool,
    codes: tuple[str, ...] = (),
    tolerance: float = 0.0,
) -> Found | None:
    """The constant that explains why an explanation of ``codes`` fits only about.

    Where these are none, it is the algorithm's own.
    """
    own = directions_of(cases, algorithm, noisy)[0]
    lengths = lengths_of(cases, False, own.vector, own.measured, tolerance)
    for code, evidence in itertools.chain(in_the_norm(lengths), in_each_tensors_norm(lengths)):
        if codes == (code,) or (not codes and code == "ascent.epsilon-too-large"):
            return code, evidence
    return None
