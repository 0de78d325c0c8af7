"""Slips of the base step in some steps, where the others are as they should be.

Step by step the usual rule, from w with g, is held against where the weights went. Where it does
not fit, what may have gone wrong in that one step is tried; the rule's state then goes on with what
was found, so that a velocity that took in a wrong gradient makes no slip of the steps after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, norm
from rsam_ref.conformance.base_step.fed import Fed, gradients, starts
from rsam_ref.conformance.base_step.judge import published
from rsam_ref.conformance.base_step.rules import HeavyBall, Published, Replayed, Rule, Sgd, Taken
from rsam_ref.conformance.hypotheses import CLOSE, EXACT, in_steps

Vector = np.ndarray
Found = tuple[str, dict[str, Any]]

SINGLE = 2e-7
"""What rounding of weights in float32 makes of a step, as a share of their length."""

FEWEST = 3
"""So many steps must be usual before one that fits nothing is called a slip."""


@dataclass
class Slip:
    """What one step does: codes, none where it is usual, and how to say it."""

    number: int
    code: str = ""
    label: str = ""


def judge_by_step(
    cases: list[Case], tolerance: float = EXACT, known: str = ""
) -> dict[str, dict[str, Any]] | None:
    """What some of the steps do wrong, and which; empty where one rule explains all of them.

    None where the other steps fit no rule either. ``known`` is an explanation of another run.
    """
    base = Fed(cases).base
    rules: list[Callable[[], Rule]] = [Sgd, partial(Sgd, lr_inside=True), HeavyBall]
    if base is not None:
        rules.insert(0, partial(Replayed, base))
    elif known.startswith("g, w, ") and (rule := published(known, cases, tolerance)) is not None:
        rules.insert(0, partial(Published, rule))
    found = []
    for made in rules:
        try:
            slips = _followed(cases, made(), tolerance)
        except Exception:  # a base that wants more than gradients cannot be replayed
            continue
        if not any(slip.code for slip in slips):
            return {}
        found.append(slips)
    told = [slips for slips in found if _believed(slips)]
    return dict(_findings(min(told, key=_departures))) if told else None


def _departures(slips: list[Slip]) -> tuple[int, int]:
    return sum(s.code == UNKNOWN for s in slips), sum(bool(s.code) for s in slips)


UNKNOWN = "update.unknown"
MULTIPLES = ("update.lr-changed", "update.clipped", "update.scaled-gradient")
"""Slips with a number of their own."""


def _believed(slips: list[Slip]) -> bool:
    """Whether so many steps are usual that the others are slips: half of them, or the first ones.

    Or all but the first step are wrong in one way, by a vector that is known.
    """
    codes = {s.code for s in slips if s.code}
    wrong = [bool(s.code) for s in slips]
    usual = wrong.count(False)
    at_first = wrong.index(True)
    if usual == at_first == 1 and len(slips) >= FEWEST:
        return len(codes) == 1 and codes.isdisjoint({UNKNOWN, *MULTIPLES})
    fewest = FEWEST if UNKNOWN in codes else 1
    return (2 * usual >= len(slips) and usual >= fewest) or at_first >= FEWEST


def _findings(slips: list[Slip]) -> Iterator[Found]:
    last = slips[-1].number
    for code in dict.fromkeys(s.code for s in slips if s.code):
        those = [s for s in slips if s.code == code]
        labels = list(dict.fromkeys(s.label for s in those))
        yield (
            code,
            {"when": in_steps([s.number for s in those], last), "there": "; ".join(labels[:3])},
        )


def _followed(cases: list[Case], rule: Rule, tolerance: float) -> list[Slip]:
    """What each step does, by this rule."""
    slips: list[Slip] = []
    rounding = 0.0 if tolerance <= EXACT else SINGLE
    for a in cases:
        before = list(rule.fed)
        usual = rule.step(a, a.w, a.seen.gradient(-1))
        limit = max(CLOSE, tolerance) * norm(a.seen.after - a.w) + rounding * norm(a.w)

        def fits(end: Vector, a: Case = a, limit: float = limit) -> bool:
            return norm(end - a.seen.after) <= limit

        if fits(usual):
            slips.append(Slip(a.seen.number))
            continue
        found = _moved_besides(a, usual, fits, whole=True) or _fed_otherwise(a, rule, before, fits)
        if found is None:
            rule.begin([*before, (a, a.w, a.seen.gradient(-1))])
            found = _moved_besides(a, usual, fits, whole=False)
        found = found or (UNKNOWN, _way_back(a, usual, fits))
        slips.append(Slip(a.seen.number, *found))
    return slips


Fits = Callable[[Vector], bool]
Named = tuple[str, str]


def _moved_besides(a: Case, usual: Vector, fits: Fits, whole: bool) -> Named | None:
    """The usual step, and a known vector besides, which leaves the state as usual.

    ``whole``: the vector as it is, or its negative; otherwise any multiple of it or of the step.
    """
    rest = a.seen.after - usual
    for what, v, codes in _vectors(a):
        if not v.any():
            continue
        times = float(rest @ v / (v @ v))
        if whole and abs(abs(times) - 1) > CLOSE:
            continue
        if fits(usual + times * v):
            code = codes[0] if times > 0 else codes[1]
            return code, f"the weights are moved by {_times(times)}{what} besides"
    if whole:
        return None
    if fits(usual + a.hyper.lr * a.hyper.weight_decay * a.w):  # it is decoupled
        return "update.decay-missing", "no weight decay"
    if np.array_equal(a.seen.after, a.w):
        return "update.no-step", "the weights do not move"
    move = usual - a.w
    times = float((a.seen.after - a.w) @ move / (move @ move + 1e-300))
    if fits(a.w + times * move):
        return "update.ascends" if times < 0 else "update.lr-changed", f"lr times {times:.4g}"
    return None


def _times(number: float) -> str:
    for usual, said in ((1.0, ""), (-1.0, "-")):
        if abs(number - usual) < 1e-3:
            return said
    return f"{number:.4g} "


def _vectors(a: Case) -> Iterator[tuple[str, Vector, tuple[str, str]]]:
    """What may be left in the weights, with the codes of its being added and subtracted."""
    yield "eps", a.eps, ("restore.not-undone", "restore.undone-twice")
    yield "D", a.draw, ("noise.not-removed", "noise.not-removed")
    both = ("restore.not-undone", "restore.undone-twice")
    yield "(eps + D)", a.eps + a.draw if a.draw.any() else 0 * a.eps, both
    if a.before is not None:
        changed = ("update.momentum-changed", "update.momentum-changed")
        yield "eps of the step before", a.before.eps, changed
        yield "D of the step before", a.before.draw, changed


def _fed_otherwise(a: Case, rule: Rule, before: list[Taken], fits: Fits) -> Named | None:
    """The rule with another gradient, from another place, or with a state that begins anew."""
    fed = Fed([a] if a.before is None else [a.before, a])
    g, w = a.seen.gradient(-1), a.w
    others = [(o.codes, o.label, w, o.value[-1]) for o in gradients(fed)]
    others += [(o.codes, o.label, o.value[-1], g) for o in starts(fed)]
    decay = a.hyper.weight_decay * w
    others.append((("update.decay-missing",), "no weight decay", w, g - decay))
    shorter = _shorter(a, before, rule)
    if shorter is not None:
        times, cut = shorter
        code = "update.clipped" if 0 < times < 1 else "update.scaled-gradient"
        others.append(((code,), f"{times:.4g} g", w, cut))
    for codes, label, start, gradient in others:
        if not codes:
            continue
        rule.begin(before)
        if fits(rule.step(a, start, gradient)):
            return codes[0], label
    rule.begin([])
    if before and fits(rule.step(a, w, g)):
        return "update.momentum-changed", "its state begins anew"
    return None


def _shorter(a: Case, before: list[Taken], rule: Rule) -> tuple[float, Vector] | None:
    """A multiple of g that the rule, if it is linear, makes this step of."""
    g = a.seen.gradient(-1)
    ends = []
    for gradient in (0 * g, g):
        rule.begin(before)
        ends.append(rule.step(a, a.w, gradient))
    way = ends[1] - ends[0]
    if not way.any():
        return None
    times = float((a.seen.after - ends[0]) @ way / (way @ way))
    return times, times * g


def _way_back(a: Case, usual: Vector, fits: Fits) -> str:
    """Where the step lands between the usual place and the weights of an earlier step."""
    for earlier in a.history:
        way = earlier.w - usual
        if not way.any():
            continue
        share = float((a.seen.after - usual) @ way / (way @ way))
        if 0 < share <= 1 and fits(usual + share * way):
            where = f"where step {earlier.seen.number + 1} began"
            return f"it lands {share:.3g} of the way back to {where}"
    return "it lands elsewhere"
