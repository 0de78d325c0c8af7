"""Judging the base step: from where did which gradient move the weights, and by which rule?

An implementation steps with what it likes, so four ways to understand its step are tried in turn:
SGD by formula (sgd.py), its own base optimizer replayed (own.py), families of published rules
(families.py), and each tensor by itself (tensors.py). What departs least from the algorithm is
believed. Where no base is known and nothing fits, the step is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent import relatives
from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step import families, own, sgd
from rsam_ref.conformance.base_step.findings import FINDINGS
from rsam_ref.conformance.base_step.sgd import judge_base_step, mixtures
from rsam_ref.conformance.base_step.tensors import judge_tensors
from rsam_ref.conformance.hypotheses import CLOSE, EXACT, Hypothesis, Verdict

__all__ = ["judge", "judge_base_step", "judge_relatives", "mixtures"]

Vector = np.ndarray

ASKED = {"update.momentum-missing", "update.momentum-dampened", "update.decay-missing"}
ASKED |= {"update.decay-decoupled", "update.decay-twice", "update.lr-ignored"}
"""Departures from the settings that were asked for, which a replayed base would hide."""


def judge(cases: list[Case], tolerance: float = EXACT) -> Verdict:
    """The explanation of where the weights went in all steps that departs least."""
    formula = judge_base_step(cases, tolerance)
    if _weight(formula) == 0:
        return formula
    verdicts = [formula]
    replay = own.judge_replay(cases, tolerance)
    if replay is not None and replay.best is not None:
        replay = _with_rates(replay, cases)
        if not _hides(formula, cases):
            if _weight(replay) == 0:
                return _as_own_base(replay, cases)
            verdicts.append(replay)
    if formula.best is None or len(formula.best.codes) > 1:
        cut = judge_base_step(cases, tolerance, more=_cut_gradients)
        if _weight(cut) < 1 and not cut.low_precision:
            return cut
        mixed = judge_base_step(cases, tolerance, more=mixtures)
        mixed.expected_error = formula.expected_error
        verdicts.append(_cut_or_normalised(mixed, cases))
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


def judge_relatives(
    cases: list[Case],
    gradients: Callable[[list[Case]], Iterable[relatives.Gradients]],
    tolerance: float = EXACT,
) -> Verdict:
    """Whether SGD with another algorithm's gradients explains the moves."""

    def options(m: sgd.Moves) -> list[sgd.Option]:
        return [sgd.Option(label, codes, m.picked(full)) for label, codes, full in gradients(cases)]

    return judge_base_step(cases, max(tolerance, 1e-7), more=options)


def _cut_gradients(m: sgd.Moves) -> list[sgd.Option]:
    """The second gradient, cut to the lengths that are usual or that it holds."""
    cut = own.clipped(own.Fed(m.cases))
    return [sgd.Option(label, codes, m.picked(full)) for label, codes, full in cut]


def _as_own_base(replay: Verdict, cases: list[Case]) -> Verdict:
    """A base that was replayed and is not SGD as it was asked for: a note says which it is."""
    assert replay.best is not None
    base, first = cases[0].seen.base.base, cases[0].seen.base.settings[:1]
    assert base is not None
    told = {k: v for k, v in (first[0] if first else {}).items() if _tells(k, v)}
    settings = ", ".join(f"{k}={v}" for k, v in told.items())
    label = f"g, w, {base.name}({settings})"
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


def _base_known(cases: list[Case]) -> bool:
    """Whether it is known what the base step should have been."""
    return own.Fed(cases).base is not None


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


def _cut_or_normalised(mixed: Verdict, cases: list[Case]) -> Verdict:
    """A gradient that is shortened where it is long, and left where it is short, is clipped."""
    if mixed.best is None or "update.normalised-gradient" not in mixed.best.codes:
        return mixed
    if mixed.best.label.startswith("g cut"):
        codes = tuple(c.replace("normalised-gradient", "clipped") for c in mixed.best.codes)
        mixed.best = Hypothesis(codes, mixed.best.predict, mixed.best.label)
        mixed.ties = []
    return mixed


def _family(cases: list[Case], tolerance: float) -> Verdict:
    """Whether a published rule explains the moves, fed with one of the gradients at w."""
    m = sgd.Moves(cases)
    fed = own.Fed(cases)
    hints = cases[0].seen.base.hints
    rates, decay = [h.lr for h in m.hypers], m.hypers[0].weight_decay
    limit = max(tolerance, CLOSE)
    sizes = [float(np.linalg.norm(end - w)) + 1e-300 for end, w in zip(m.after, m.w)]
    fitted = families.fitted_sgd(m.w, m.last, m.after, rates)
    if fitted is not None:
        label, predicted = fitted
        error = max(
            float(np.linalg.norm(p - end)) / size for p, end, size in zip(predicted, m.after, sizes)
        )
        if error <= limit:
            best = Hypothesis(
                ("update.own-base",), partial(_at, predicted, cases), f"g, w, {label}"
            )
            return Verdict(best, error, error, low_precision=error > tolerance)
    nearest = ("", np.inf)
    for label, codes, full in own.gradients(fed):
        gradients = m.picked(full)
        for family in families.families(m.hypers[0].momentum, hints):
            for kind in families.DECAYS if decay else families.DECAYS[:1]:
                arguments = (family, m.w, gradients, rates, decay, kind)
                first = families.ends(family, m.w[:1], gradients[:1], rates[:1], decay, kind)
                if np.linalg.norm(first[0] - m.after[0]) > limit * sizes[0]:
                    continue
                predicted = families.ends(*arguments)
                error = max(
                    float(np.linalg.norm(p - end)) / size
                    for p, end, size in zip(predicted, m.after, sizes)
                )
                name = f"{label}, w, {family.label}, weight decay {kind}"
                if error < nearest[1]:
                    nearest = (name, error)
                if error <= limit:
                    found = Hypothesis(
                        ("update.own-base", *codes), partial(_at, predicted, cases), name
                    )
                    return Verdict(found, error, error, low_precision=error > tolerance)
    fed_twice = _fed_twice(m, hints, rates, decay, limit, sizes)
    if fed_twice is not None:
        label, error, predicted = fed_twice
        found = Hypothesis(("update.momentum-twice",), partial(_at, predicted, cases), label)
        return Verdict(found, error, error, low_precision=error > tolerance)
    step = _own_step_size(m, limit)
    if step is not None:
        label, error, predicted = step
        found = Hypothesis(("update.own-step-size",), partial(_at, predicted, cases), label)
        return Verdict(found, error, error, low_precision=error > tolerance)
    return Verdict(None, np.inf, np.inf, nearest=nearest if nearest[0] else None)


def _fed_twice(
    m: sgd.Moves,
    hints: dict[str, Any],
    rates: list[float],
    decay: float,
    limit: float,
    sizes: list[float],
) -> tuple[str, float, list[Vector]] | None:
    """Whether a published rule whose state takes in both gradients explains the moves."""
    gradients = [g for pair in zip(m.first, m.last) for g in pair]
    twice = [lr for lr in rates for _ in range(2)]
    places = [w for w in m.w for _ in range(2)]
    for family in families.families(m.hypers[0].momentum, hints):
        for kind in families.DECAYS if decay else families.DECAYS[:1]:
            first = families.ends(family, places[:2], gradients[:2], twice[:2], decay, kind)
            if np.linalg.norm(first[1] - m.after[0]) > limit * sizes[0]:
                continue
            predicted = families.ends(family, places, gradients, twice, decay, kind)[1::2]
            error = max(
                float(np.linalg.norm(p - end)) / size
                for p, end, size in zip(predicted, m.after, sizes)
            )
            if error <= limit:
                return f"g0 and g into the state of {family.label}", error, predicted
    return None


def _own_step_size(m: sgd.Moves, limit: float) -> tuple[str, float, list[Vector]] | None:
    """Whether every move is the gradient times a number of that step's own."""
    for label, share in (("g + weight_decay w", 1.0), ("g", 0.0)):
        worst, numbers, predicted = 0.0, [], []
        for g, w, end, hyper in zip(m.last, m.w, m.after, m.hypers):
            along = g + share * hyper.weight_decay * w
            size = float(along @ (w - end) / (along @ along + 1e-300))
            worst = max(
                worst,
                float(np.linalg.norm(w - size * along - end))
                / (float(np.linalg.norm(end - w)) + 1e-300),
            )
            numbers.append(size)
            predicted.append(w - size * along)
        if worst <= limit and min(numbers) > 0:
            told = ", ".join(f"{n:.4g}" for n in numbers)
            return f"{label}, w, times {told}", worst, predicted
    return None


def _at(predicted: list[Vector], cases: list[Case], a: Any) -> Vector:
    return predicted[next(t for t, case in enumerate(cases) if case is a)]


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
    found = Hypothesis((code,), partial(_at, m.after, cases[:1]), label)
    return Verdict(found, np.nan, nearest.expected_error, nearest=nearest.nearest)
