"""Which loss a step gives back to its caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.observe.observer import Step, watch
from rsam_ref.conformance.observe.problem import Problem
from rsam_ref.conformance.probes.setting import Setting, SkippedError, cases_of, is_finite
from rsam_ref.conformance.report.report import Finding

STEPS = 3
BY_CLOSURE = ("closure", "forward-closure")
"""The ways in which a step returns something to its caller; halves return nothing."""


def returned_loss(s: Setting) -> list[Finding]:
    """The loss that is returned, if any, is the first pass's, not that at the perturbed weights.

    Who calls backward first has the first pass's loss. What a training step returns is for its
    caller to know: there it is a note.
    """
    if s.maker.contract == "backward-first":
        raise SkippedError("the caller has the first pass's loss")
    wrong: dict[str, Any] = {}
    numbers = 0
    for a, step in _steps_that_return(s):
        given = list(_numbers(step.returned))
        numbers += len(given)
        if len(a.seen.points) < 2:
            raise SkippedError("a step takes one gradient")
        if not given:
            break
        losses = [_loss(a, i) for i in range(len(a.seen.points))]
        close = max(s.main.tolerance, 1e-6) * (abs(losses[0]) + abs(losses[-1]))
        if abs(losses[0] - losses[-1]) < 3 * close:
            continue
        at_w = a.problem.loss_and_grad(a.w, a.seen.number)[0]
        first = any(abs(v - loss) < close for v in given for loss in (losses[0], at_w))
        last = [v for v in given if abs(v - losses[-1]) < close]
        if first or not last:
            return []
        wrong = wrong or {"returned": last[0], "the first pass's loss": losses[0]}
    if not numbers:
        raise SkippedError("no loss is returned")
    optimizer = s.maker.form == "optimizer"
    code = "contract.perturbed-loss" if optimizer else "contract.second-loss"
    return [Finding(code, wrong)] if wrong else []


def _steps_that_return(s: Setting) -> list[tuple[Case, Step]]:
    """The first steps of the main run; of step(closure), where that was driven by halves."""
    way = next((w for name in BY_CLOSURE for w in s.others if w.name == name), None)
    if s.maker.form != "optimizer" or way is None or s.maker.contract in BY_CLOSURE:
        return list(zip(s.main.cases, s.steps))[:STEPS]
    problem = Problem(s.seed)
    try:
        subject = s.maker(problem, s.hyper, way=way)
        steps = watch(subject, [step.hyper for step in s.steps[:STEPS]])
    except Exception:  # what does not work in that way is told where it is driven
        raise SkippedError("no loss is returned") from None
    if not all(step.evaluations and is_finite(step) for step in steps):
        raise SkippedError("no loss is returned")
    return list(zip(cases_of(problem, steps), steps))


def _loss(a: Case, i: int) -> float:
    """The loss where the i-th gradient was taken."""
    batch, rows = a.seen.batches[i]
    return a.problem.loss_and_grad(a.seen.points[i], batch, rows, a.seen.number)[0]


def _numbers(given: Any, depth: int = 3) -> Iterator[float]:
    """The numbers in what a step returned: alone, or in tuples, lists and mappings."""
    if isinstance(given, bool | str | bytes) or given is None or depth == 0:
        return
    if isinstance(given, int | float):
        yield float(given)
    elif isinstance(given, Mapping):
        for value in given.values():
            yield from _numbers(value, depth - 1)
    elif isinstance(given, tuple | list):
        for value in given:
            yield from _numbers(value, depth - 1)
    elif callable(getattr(given, "item", None)) and getattr(given, "size", None) is not None:
        try:
            yield float(given.item())
        except (TypeError, ValueError, RuntimeError):
            return
