"""Mixed precision: a gradient scaler that meets an overflow, and autocast as it really rounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.conformance.observe.observer import Step, watch
from rsam_ref.conformance.observe.problem import Problem
from rsam_ref.conformance.probes.setting import Setting, SkippedError
from rsam_ref.conformance.report.report import Finding

PASSES = ("first", "second")


def gradient_scaler(s: Setting) -> list[Finding]:
    """How the scaler is used, and where the weights end when one of the passes overflows."""
    used = [step.scaler for step in s.steps if step.scaler.scalers]
    if not any(scaler.factors for scaler in used):
        raise SkippedError(
            "the gradient scaler is off, as one for CUDA is where there is none; for the check, "
            'make it with torch.amp.GradScaler("cpu")'
        )
    found = []
    if all(scaler.updates > 1 for scaler in used):
        found.append(Finding("scaler.updated-twice", {"updates a step": used[0].updates}))
    if len({id(scaler.scalers[0]) for scaler in used}) == len(used):
        found.append(Finding("scaler.made-anew", {"scalers in as many steps": len(used)}))
    return [*_overflows(s), *found]


def _overflows(s: Setting) -> list[Finding]:
    if not all(finding.note for finding in s.main.findings):
        return []  # where the weights should be is not known
    found = [_overflow(s, place, name) for place, name in enumerate(PASSES)]
    first_of_each = {f.code: f for f in reversed(found) if f is not None}
    return list(first_of_each.values())


def _overflow(s: Setting, place: int, name: str) -> Finding | None:
    """A step in which one pass has an infinite gradient, between two that are as usual."""
    subject = s.maker(Problem(s.seed), s.hyper)
    watch(subject, [s.hyper])
    subject.overflow_in = place
    step = watch(subject, [s.hyper], first=1)[0]
    subject.overflow_in = None
    w, after = step.before, step.after
    if np.isfinite(after).all():
        next_step = watch(subject, [s.hyper], first=2)[0]
        after = after if np.isfinite(next_step.after).all() else next_step.after
    evidence: dict[str, Any] = {"pass that overflows": name}
    if not np.isfinite(after).all():
        evidence["not finite"] = "the weights after it"
        return Finding("scaler.overflow-not-skipped", evidence)
    moved = float(np.linalg.norm(after - w))
    if moved <= _rounding(s, w):
        return None
    evidence |= {"the weights move by": moved}
    if np.linalg.norm(after - step.evaluations[-1].at) <= _rounding(s, w):
        return Finding("scaler.overflow-left-perturbed", evidence)
    if place == 0 and _goes_on(step):
        return None
    return Finding("scaler.overflow-not-skipped", evidence)


def _goes_on(step: Step) -> bool:
    """Whether the second pass was run at weights that are finite: its gradient is a right one."""
    return len(step.evaluations) > 1 and bool(np.isfinite(step.evaluations[-1].at).all())


def _rounding(s: Setting, w: np.ndarray) -> float:
    return float((1e-5 if s.main.single else 1e-12) * np.linalg.norm(w))


def autocast(s: Setting) -> list[Finding]:
    """Two steps in float32, with autocast as it is: it leaves float64 alone."""
    passes = [[e.lowered_to for e in step.evaluations] for step in s.steps]
    subject = s.maker(Problem(s.seed), s.hyper, dtype="float32")
    subject.lowered = True
    step = watch(subject, [s.hyper])[0]
    runs = [run for run in subject.runs if run.used]
    if any(run.other_weights for run in runs):
        number = next(i for i, run in enumerate(runs) if run.other_weights)
        evidence = {"run with the weights of": "the first pass", "pass": number + 1}
        return [Finding("ascent.cached-weights", evidence)]
    if any(len(set(types)) > 1 for types in passes):
        told = next(types for types in passes if len(set(types)) > 1)
        evidence = {"the passes are in": ", ".join(str(t or "float32") for t in told)}
        return [Finding("precision.passes-differ", evidence)]
    return [Finding("precision.autocast", _rounded(s, step, str(passes[0][0])))]


def _rounded(s: Setting, step: Step, lower: str) -> dict[str, Any]:
    """How far the lower type's rounding turns the first step's eps from that in float64."""
    evidence: dict[str, Any] = {"in": lower}
    exact, rough = s.steps[0], step
    if s.algorithm != "rsam" and len(rough.evaluations) > 1 and len(exact.evaluations) > 1:
        one = exact.evaluations[-1].at - exact.before
        other = rough.evaluations[-1].at - rough.before
        evidence["eps departs by"] = float(
            np.linalg.norm(one - other) / (np.linalg.norm(one) + 1e-300)
        )
    return evidence
