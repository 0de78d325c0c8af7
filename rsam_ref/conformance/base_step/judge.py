"""Judging the base step: from where did which gradient move the weights, and by which rule?

An implementation steps with what it likes, so four ways to understand its step are tried in turn:
SGD by formula (sgd.py), its own base optimizer replayed (own.py), families of published rules
(families.py), and each tensor by itself (tensors.py). What departs least from the algorithm is
believed. Where no base is known and nothing fits, the step is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent import relatives
from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step import families, own, sgd
from rsam_ref.conformance.base_step.asked import NAMELESS
from rsam_ref.conformance.base_step.fed import Fed, Option
from rsam_ref.conformance.base_step.findings import FINDINGS
from rsam_ref.conformance.base_step.sgd import judge_base_step, mixtures
from rsam_ref.conformance.base_step.tensors import judge_tensors
from rsam_ref.conformance.hypotheses import CLOSE, EXACT, Hypothesis, Verdict, at_once

__all__ = ["judge", "judge_relatives", "may_be_slips", "still_fits"]

Vector = np.ndarray

UNKNOWN = {"update.not-judged", "update.own-step-size"}

ASKED = {"update.momentum-missing", "update.momentum-dampened", "update.decay-missing"}
ASKED |= {"update.decay-decoupled", "update.decay-twice", "update.lr-ignored"}
"""Departures from the settings that were asked for, which a replayed base would hide."""


def judge(cases: list[Case], tolerance: float = EXACT) -> Verdict:
    """The explanation of where the weights went in all steps that departs least."""
    scaled = own.judge_scaled(cases, tolerance)
    if scaled is not None:
        return scaled
    formula = judge_base_step(cases, tolerance)
    if _weight(formula) == 0:
        return formula
    verdicts = [formula]
    alone = 1 if _weight(formula) <= 1 else None  # only the base's own use departs less than that
    replay = own.judge_replay(cases, tolerance, most=alone)
    if replay is not None and replay.best is not None:
        replay = _with_rates(replay, cases)
        if not _hides(formula, cases):
            if _weight(replay) == 0:
                return _as_own_base(replay, cases, tolerance)
            verdicts.append(replay)
    if formula.best is None:
        rated = judge_base_step(cases, tolerance, rates=sgd.other_rates)
        if rated.best is not None and not rated.low_precision:
            return rated
    if formula.best is None or len(formula.best.codes) > 1:
        cut = judge_base_step(cases, tolerance, more=_cut_gradients)
        if _weight(cut) < 1 and not cut.low_precision:
            return cut
        mixed = judge_base_step(cases, tolerance, more=_altered)
        mixed.expected_error = formula.expected_error
        verdicts.append(mixed)
    if min(map(_weight, verdicts)) > 1:
        verdicts.append(judge_relatives(cases, relatives.second_order, tolerance))
    if min(map(_weight, verdicts)) > 1:
        family = _family(cases, tolerance)
        verdicts.append(_as_other_base(family) if _base_known(cases) else family)
    if min(map(_weight, verdicts)) > 1:
        verdicts.append(judge_tensors(cases, tolerance))
    best = min(verdicts, key=_weight)
    if best.best is None and not _base_known(cases):
        return _not_judged(cases, best)
    return best


def still_fits(codes: tuple[str, ...], cases: list[Case], tolerance: float = EXACT) -> bool:
    """Whether the explanation that was found in other steps, by its codes, is that of these.

    Where that is the usual one, no other needs to be tried.
    """
    if not codes:
        return _weight(judge_base_step(cases, tolerance, most=1)) == 0
    if codes == ("update.own-base",) and _base_known(cases):
        replay = own.judge_replay(cases, tolerance, most=1)
        if replay is not None and _weight(replay) == 0:
            return True
    found = judge(cases, tolerance).best
    return found is not None and set(found.codes) == set(codes)


def judge_relatives(
    cases: list[Case],
    gradients: Callable[[list[Case]], Iterable[relatives.Gradients]],
    tolerance: float = EXACT,
) -> Verdict:
    """Whether SGD with another algorithm's gradients explains the moves."""

    def options(m: sgd.Moves) -> list[Option]:
        return m.options(Option(*found) for found in gradients(cases))

    return judge_base_step(cases, max(tolerance, 1e-7), more=options)


def judge_given(cases: list[Case], given: Option, tolerance: float = EXACT) -> Verdict:
    """Whether SGD that was given these gradients, full vectors, explains the moves."""
    return judge_relatives(cases, lambda _: [(given.label, given.codes, given.value)], tolerance)


def _cut_gradients(m: sgd.Moves) -> list[Option]:
    """The second gradient, cut to the lengths that are usual or that it holds."""
    return m.options(own.clipped(m.fed))


def _altered(m: sgd.Moves) -> list[Option]:
    """Mixtures of both gradients; the second one scaled as the first is when that is cut, or made
    of weights that were put back too early.
    """
    found = mixtures(m)
    for length in own.clip_lengths(m.fed.cases):
        if m.first_lengths[0] <= length < max(m.first_lengths):  # else the first step told it
            found += sgd.by_the_first(m, length)
    return found + m.options(own.put_back_too_early(m.fed))


def _as_own_base(replay: Verdict, cases: list[Case], tolerance: float) -> Verdict:
    """A base that was replayed and is not SGD as it was asked for: a note says which it is."""
    assert replay.best is not None
    base, first = cases[0].seen.base.base, cases[0].seen.base.settings[:1]
    assert base is not None
    told = {k: v for k, v in (first[0] if first else {}).items() if _tells(k, v)}
    settings = ", ".join(f"{k}={v}" for k, v in told.items())
    label = f"g, w, {base.name}({settings})"
    if base.name == NAMELESS:
        family = _family(cases, tolerance).best
        label = family.label if family and family.codes == ("update.own-base",) else label
    replay.best = Hypothesis(("update.own-base",), replay.best.predict, label)
    return replay


def _tells(name: str, value: Any) -> bool:
    """Whether a group's setting says what the base is."""
    plain = isinstance(value, bool | int | float | tuple) and value not in (False, None, 0)
    return plain and name not in ("rho", "sigma", "lam", "foreach", "initial_lr", "adaptive")


def _as_other_base(family: Verdict) -> Verdict:
    """A rule that is not that of the base optimizer which is known."""
    if family.best is not None:
        codes = tuple(c.replace("own-base", "other-base") for c in family.best.codes)
        family.best = Hypothesis(codes, family.best.predict, family.best.label)
    return family


def _weight(verdict: Verdict) -> float:
    """How far an explanation departs; a note counts little."""
    if verdict.best is None:
        return np.inf
    notes = [FINDINGS[code].note for code in verdict.best.codes if code in FINDINGS]
    return len(verdict.best.codes) - 0.9 * sum(notes)


def may_be_slips(verdict: Verdict) -> bool:
    """Whether one explanation of all steps was not found, or takes several mistakes in each."""
    best = verdict.best
    return best is None or _weight(verdict) > 1 or not UNKNOWN.isdisjoint(best.codes)


def _base_known(cases: list[Case]) -> bool:
    """Whether it is known what the base step should have been."""
    return Fed(cases).base is not None


def _hides(formula: Verdict, cases: list[Case]) -> bool:
    """Whether a replay would take settings that were not asked for as the base's own."""
    if formula.best is None or cases[0].seen.base.base is None:
        return False
    return cases[0].seen.base.base.name == "SGD" and bool(ASKED & set(formula.best.codes))


def _with_rates(replay: Verdict, cases: list[Case]) -> Verdict:
    """A replay in which changes of the learning rate did not reach the base says so."""
    rates = [{group.get("lr") for group in a.seen.base.settings} for a in cases]
    asked = [a.hyper.lr for a in cases]
    steady = len(set(map(frozenset, rates))) == 1 and len(rates[0]) == 1
    if replay.best is not None and steady and len(set(asked)) > 1:
        codes = (*replay.best.codes, "update.lr-ignored")
        replay.best = Hypothesis(codes, replay.best.predict, replay.best.label)
    return replay


def _family(cases: list[Case], tolerance: float) -> Verdict:
    """Whether a published rule explains the moves, fed with one of the gradients at w.

    The first that does so exactly, or else the first that comes close.
    """
    m = sgd.Moves(cases)
    limit = max(tolerance, CLOSE)
    nearest: tuple[str, float] | None = None
    close: Verdict | None = None
    for codes, label, ends in _rules(m, limit):
        error = m.error(ends)
        best = Hypothesis(codes, at_once(cases, partial(list, ends)), label)
        if error <= tolerance:
            return Verdict(best, error, error)
        if error <= limit and close is None:
            close = Verdict(best, error, error, low_precision=True)
        if nearest is None or error < nearest[1]:
            nearest = label, error
    return close or Verdict(None, np.inf, np.inf, nearest=nearest)


Rule = tuple[tuple[str, ...], str, list[Vector]]


def _rules(m: sgd.Moves, limit: float) -> Iterator[Rule]:
    """Rules that explain the first move, with their ends in all steps; the likeliest first."""
    fitted = families.fitted_sgd(m.w, m.last, m.after, m.rates)
    if fitted is not None:
        codes = _without_effect(m.hypers, bool(fitted.momentum), bool(fitted.decay))
        if fitted.momentum or fitted.decay or not codes:
            codes = ("update.own-base", *codes)
        yield codes, f"g, w, {fitted.label}", fitted.ends
    for g in m.options(own.all_gradients(m.fed)):
        for rule, ends in _published(m, [[v] for v in g.value], limit):
            yield ("update.own-base", *g.codes), f"{g.label}, w, {rule.label}", ends
    both = [list(pair) for pair in zip(m.first, m.last)]
    for rule, ends in _published(m, both, limit):
        yield ("update.momentum-twice",), f"g0 and g into the state of {rule.label}", ends
    yield from _lengths_of_its_own(m)


def _lengths_of_its_own(m: sgd.Moves) -> Iterator[Rule]:
    """Down g from w by a length that no learning rate explains.

    One that is always the same is a learning rate of its own: then what else was asked for and
    has no effect is told with it. One that follows lr is `mixtures`' affair.
    """
    for label, share in (("g + weight_decay w", 1.0), ("g", 0.0)):
        along = [g + share * h.weight_decay * w for g, w, h in zip(m.last, m.w, m.hypers)]
        sizes = [float(v @ (w - e) / (v @ v + 1e-300)) for v, w, e in zip(along, m.w, m.after)]
        shares = [size / max(h.lr, 1e-300) for size, h in zip(sizes, m.hypers)]
        if min(sizes) <= 0 or (len(shares) > 1 and _steady(shares)):
            continue
        told = ", ".join(f"{size:.4g}" for size in sizes)
        codes: tuple[str, ...] = ("update.own-step-size",)
        if _steady(sizes):
            told = f"{sizes[0]:.4g} in every step"
            codes = ("update.lr-ignored", *_without_effect(m.hypers, False, bool(share)))
        ends = [w - size * v for w, size, v in zip(m.w, sizes, along)]
        yield codes, f"{label}, w, times {told}", ends


def _steady(values: list[float]) -> bool:
    """Whether these are one number, as far as weights in float32 tell."""
    return bool(np.ptp(values) < CLOSE * max(values))


def _without_effect(hypers: Any, with_momentum: bool, with_decay: bool) -> tuple[str, ...]:
    """What was asked for and is not in the step."""
    momentum = not with_momentum and any(h.momentum for h in hypers)
    decay = not with_decay and any(h.weight_decay for h in hypers)
    return (
        *(("update.momentum-missing",) if momentum else ()),
        *(("update.decay-missing",) if decay else ()),
    )


def published(label: str, cases: list[Case], tolerance: float) -> families.Decaying | None:
    """The published rule, fed with g at w, that an explanation names, if it explains the first
    move.
    """
    m = sgd.Moves(cases[:1])
    rules = (rule for rule, _ in _published(m, [[m.last[0]]], max(tolerance, CLOSE)))
    return next((rule for rule in rules if f"g, w, {rule.label}" == label), None)


def _published(
    m: sgd.Moves, fed: list[list[Vector]], limit: float
) -> Iterator[tuple[families.Decaying, list[Vector]]]:
    """Published rules that explain the first move, whose state takes in all that is ``fed``, and
    where they end.

    Of the gradients of one step the last one's move is kept.
    """
    count = len(fed[0])
    gradients = [g for of_step in fed for g in of_step]
    places = [w for w in m.w for _ in range(count)]
    rates = [lr for lr in m.rates for _ in range(count)]
    decay, hints = m.hypers[0].weight_decay, m.fed.cases[0].seen.base.hints
    for family in families.families(m.hypers[0].momentum, hints):
        kinds = families.DECAYS if decay else families.DECAYS[:1]
        decays = [(kind, decay, kind) for kind in kinds]
        its_own = families.fitted_decay(family, places[0], gradients[:count], m.after[0], rates)
        if its_own is not None:  # before "none", which a small one looks like
            decays.insert(-1, (f"{its_own:.3g} decoupled: its own", its_own, "decoupled"))
        for told, size, kind in decays:
            rule = families.Decaying(family, size, kind, told)
            first = rule.ends(places[:count], gradients[:count], rates[:count])[-1]
            if np.linalg.norm(first - m.after[0]) <= limit * (m.sizes[0] + 1e-300):
                yield rule, rule.ends(places, gradients, rates)[count - 1 :: count]


def _not_judged(cases: list[Case], nearest: Verdict) -> Verdict:
    """The step of an unknown base: not judged, if the gradient may at least have led it.

    At the first step, without a history, a move goes down the gradient's sign in every weight.
    """
    m = sgd.Moves(cases[:1])
    move = m.w[0] - m.after[0]

    def agreement(g: Vector) -> float:
        clear = np.abs(g) > 2 * m.hypers[0].weight_decay * np.abs(m.w[0])
        return float(np.mean(np.sign(g[clear]) == np.sign(move[clear]))) if clear.any() else 0.0

    down, first = agreement(m.last[0]), agreement(m.first[0])
    if down > 0.99:
        code = "update.not-judged"
    elif first > 0.99 and down < 0.97:
        code = "update.uses-first-gradient"
    else:
        return nearest
    label = f"{down:.0%} of the weights move down the sign of g, {first:.0%} down that of g0"
    found = Hypothesis((code,), at_once(cases[:1], lambda: m.after), label)
    return Verdict(found, np.nan, nearest.expected_error, nearest=nearest.nearest)
