"""Judging the ascent: which eps leads from w to where the second gradient is taken.

Every explanation is a direction, a norm that divides it, a radius, and a place to start from; each
of the four may depart from the algorithm on its own, so that several mistakes are told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm
from rsam_ref.conformance.ascent.directions import (
    STALE,
    Direction,
    asam_directions,
    named_directions,
    rsam_directions,
    sam_directions,
)
from rsam_ref.conformance.ascent.norms import norms, radii
from rsam_ref.conformance.hypotheses import EXACT, Hypothesis, Verdict, choose


def explanations(algorithm: str, noisy: bool, grouped: bool) -> Iterator[Hypothesis]:
    """All combinations of direction, norm, radius and start."""
    if noisy:
        directions = list(rsam_directions())
    elif algorithm == "asam":
        directions = list(asam_directions())
    else:
        directions = [*sam_directions(), *named_directions()]
    starts: list[tuple[str, tuple[str, ...], Callable[[Case], Any]]] = [("", (), lambda a: 0.0)]
    if noisy:
        starts.append((", from w + D", ("direction.measured-from-noise",), lambda a: a.draw))
    choices = {"all": norms(grouped), "one": norms(grouped)[:1], "none": norms(grouped)[1:2]}
    for d in directions:
        for norm_label, norm_codes, divisor in choices[d.norms]:
            own = () if d.norms == "none" else norm_codes
            for radius_label, radius_codes, radius in radii(grouped):
                for start_label, start_codes, start in starts:
                    codes = (*start_codes, *d.codes, *own, *radius_codes)
                    if start_codes and d.codes == ("algorithm.rsam-gradient",):
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
    grouped = cases[0].groups is not None
    return choose(
        list(explanations(algorithm, noisy, grouped)),
        cases,
        lambda a: a.eps,
        lambda a: float(np.linalg.norm(a.eps)),
        tolerance,
    )


def judge_direction(cases: list[Case], algorithm: str, noisy: bool, tolerance: float) -> Verdict:
    """Which direction fits, whatever the length."""
    starts = [()] if not noisy else [(), ("direction.measured-from-noise",)]

    def along(a: Case, d: Direction, start: tuple[str, ...]) -> Vector:
        v = d.vector(a)
        eps = a.eps - a.draw if start else a.eps
        if a.before is None and d.codes[:1] in STALE:
            return a.eps
        back = a.draw if start else 0.0
        return back + np.linalg.norm(eps) * v / (np.linalg.norm(v) + 1e-300)

    directions = list(rsam_directions()) if noisy else list(sam_directions())
    if algorithm == "asam" and not noisy:
        directions = list(asam_directions())
    return choose(
        [
            Hypothesis((*start, *d.codes), partial(along, d=d, start=start), d.label)
            for d in directions
            for start in starts
        ],
        cases,
        lambda a: a.eps,
        lambda a: float(np.linalg.norm(a.eps)),
        tolerance,
    )


def judge_length(cases: list[Case], start: bool) -> tuple[str, dict[str, Any]]:
    """What is wrong with a length, where the direction is right."""
    lengths = np.array([norm(a.eps - a.draw if start else a.eps) for a in cases])
    rhos = np.array([a.hyper.rho for a in cases])
    sizes = np.array([norm(a.first) for a in cases])
    evidence = {"||eps|| / rho": [round(float(r), 6) for r in lengths / rhos]}

    def steady(v: Vector) -> bool:
        return float(np.ptp(v)) < 1e-4 * float(np.abs(v).max())

    if steady(lengths) and not steady(rhos):
        return "ascent.radius-ignored", {"||eps||": float(lengths[0]), **evidence}
    if steady(lengths / rhos):
        return "ascent.wrong-radius", evidence
    constants = sizes * (rhos / lengths - 1)
    if steady(constants) and constants[0] > 0:
        return "ascent.epsilon-too-large", {"the constant": float(constants[0]), **evidence}
    return "ascent.wrong-radius", evidence
