"""Saving and going on: a run that was interrupted is the run that was not."""

from __future__ import annotations

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.ascent.judge import judge_ascent
from rsam_ref.conformance.base_step import judge as base_step
from rsam_ref.conformance.family import Known
from rsam_ref.conformance.observe.observer import BrokenError, Step, watch
from rsam_ref.conformance.observe.problem import Hyper
from rsam_ref.conformance.probes.setting import (
    Setting,
    SkippedError,
    cases_of,
    is_finite,
    is_note,
    where_not_finite,
)
from rsam_ref.conformance.report.report import Finding


def save_and_resume(s: Setting) -> list[Finding]:
    """A run that was saved and loaded half-way goes on as if nothing had happened.

    The base step is judged as in the main run: by formula, or by its own base, replayed from the
    first step on. What then fits the second half from a fresh base alone has lost its state.
    """
    if isinstance(s.resumed, BrokenError):
        raise SkippedError(str(s.resumed))
    if isinstance(s.resumed, Exception):
        return [Finding("resume.fails", {"error": f"{type(s.resumed).__name__}: {s.resumed}"})]
    update = s.main.update
    if update is None or update.best is None or "update.not-judged" in update.best.codes:
        raise SkippedError("the base step is not understood")
    problem, half = s.main.cases[0].problem, len(s.steps) // 2
    rest = watch(s.resumed, [step.hyper for step in s.steps[half:]], half)
    for step in rest:
        if not is_finite(step):
            return [Finding("resume.hidden-state", {"not finite": where_not_finite(step)})]
    cases = cases_of(problem, [*s.steps[:half], *rest])
    if s.main.known is not None:
        return _relative(s.main.known, update.best.codes, cases, half, s.main.tolerance)
    other_rates = any(_rates(a) != _rates(b) for a, b in zip(s.steps[half:], rest))
    if base_step.still_fits(update.best.codes, cases, s.main.tolerance):
        if other_rates:
            return [Finding("resume.lr-lost")]
        return _ascent(s, cases)
    afresh = base_step.judge(cases_of(problem, rest), s.main.tolerance)
    if afresh.best is not None:
        changed = set(afresh.best.codes) - set(update.best.codes)
        changed = {code for code in changed if not is_note(code)}
        if changed <= {"update.lr-ignored"}:
            if changed and not _remembers(s.hyper, update.best.codes, s.steps[0]):
                return [Finding("resume.lr-lost")]
            evidence = {"error, from a fresh base optimizer": afresh.error}
            lost = [Finding("resume.momentum-lost", evidence)]
            return [*lost, Finding("resume.lr-lost")] if changed else lost
    if other_rates:
        return [Finding("resume.lr-lost")]
    return [Finding("resume.hidden-state", {"differs": "the base step"})]


def _relative(
    known: Known, codes: tuple[str, ...], cases: list[Case], half: int, tolerance: float
) -> list[Finding]:
    """The same of one of SAM's relatives, which may keep something from step to step."""
    again = known.again(cases, tolerance)
    if again is None:
        return [Finding("resume.hidden-state", {"differs": f"what {known.relative.title} keeps"})]
    whole = base_step.judge_given(cases, again.since(0), tolerance)
    if whole.best is not None and set(whole.best.codes) <= set(codes):
        return []
    afresh = base_step.judge_given(cases[half:], again.since(half), tolerance)
    if afresh.best is not None and set(afresh.best.codes) <= set(codes):
        return [Finding("resume.momentum-lost", {"error, from a fresh base": afresh.error})]
    return [Finding("resume.hidden-state", {"differs": "the base step"})]


def _rates(step: Step) -> list[float]:
    """The learning rates of its base's groups."""
    return [group.get("lr", 0.0) for group in step.base.settings]


def _ascent(s: Setting, cases: list[Case]) -> list[Finding]:
    if s.conforms and len(cases[0].seen.points) == 2:
        ascent = judge_ascent(cases, s.algorithm, s.algorithm == "rsam", s.ascent_tolerance)
        if ascent.best is None or not all(map(is_note, ascent.best.codes)):
            return [Finding("resume.hidden-state", {"differs": "the ascent"})]
    return []


def _remembers(hyper: Hyper, codes: tuple[str, ...], first: Step) -> bool:
    """Whether the base step has a state that could be lost."""
    without = hyper.momentum == 0 or "update.momentum-missing" in codes
    other = first.base.base is not None and first.base.base.name != "SGD"
    return other or "update.own-base" in codes or not without
