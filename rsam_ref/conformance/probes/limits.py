"""The limits that must hold: lr = 0, rho = 0, sigma = 0, no gradient, hardly any gradient."""

from __future__ import annotations

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step import judge as base_step
from rsam_ref.conformance.diagnosis import diagnose
from rsam_ref.conformance.observe.observer import Seen, Step, watch
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.probes.setting import (
    Setting,
    SkippedError,
    cases_of,
    is_finite,
    is_note,
    where_not_finite,
)
from rsam_ref.conformance.report.report import Finding

STEPS = 3
"""Momentum and moments of the base show from the second step on."""


def no_learning_rate(s: Setting) -> list[Finding]:
    """With lr = 0 the weights come back as they were, bit for bit, in float64 and float32.

    Where they move by more than rounding, or as they do at the usual lr, the step's size is not
    lr's affair, and nothing is told.
    """
    if any(
        (f.stage in ("restore", "update") and not f.note) or f.code == "noise.not-removed"
        for f in s.main.findings
    ):
        raise SkippedError("the step diverges already")
    for dtype in ("float32",) if s.main.single else ("float32", "float64"):
        step = s.one_step(s.hyper.but(lr=0.0), dtype=dtype)
        moved = float(np.abs(step.after - step.before).max())
        rounding = 2.0**-12 * float(np.abs(step.before).max())
        if moved > rounding or (moved > 0 and moved > 0.5 * _move(s, dtype)):
            raise SkippedError("the weights move at lr = 0: lr does not decide the step's size")
        if moved > 0:
            return [Finding("restore.by-subtraction", {"in": dtype, "weights move by": moved})]
    return []


def _move(s: Setting, dtype: str) -> float:
    """How far a step at the usual lr moves a weight at most."""
    step = s.one_step(s.hyper, dtype=dtype)
    return float(np.abs(step.after - step.before).max())


def zero_gradient(s: Setting) -> list[Finding]:
    """A gradient of 0 (and no draw) gives eps = 0, never NaN."""
    hyper = s.hyper.but(sigma=0.0)
    step = watch(s.maker(Problem(s.seed, 0.0), hyper), [hyper])[0]
    if not is_finite(step):
        return [Finding("ascent.nan-at-zero-gradient", {"not finite": where_not_finite(step)})]
    return []


BITES = 1e-3
"""A constant beside the norm, or under it, that gradients of usual lengths are not free from."""


TOLD = "precision.epsilon"
"""What the main run tells of a constant in the norm that hardly changes gradients there."""


def tiny_gradient(s: Setting) -> list[Finding]:
    """With the loss times 1e-12 the constant beside the norm can be seen.

    R-SAM's norm is short only where its draw is short as well: there the weights are small, too.
    Elsewhere its draw keeps the norm away from 0, so that only a constant that bites is told.
    """
    seen, a = _one_case(s, Problem(s.seed, 1e-12, 1e-9 if s.algorithm == "rsam" else 1.0))
    if not np.isfinite(seen.last).all():
        return [Finding("ascent.nan-at-zero-gradient", {"loss": "times 1e-12"})]
    if s.in_halves:
        raise SkippedError("the norm is rounded to half precision, which is told")
    if len(seen.points) < 2:
        return [Finding(TOLD, {"||eps||": 0.0, "loss": "times 1e-12"})]
    along, size = _asked(a, s.algorithm)
    wanted = s.hyper.rho * float(np.linalg.norm(along))
    constant = wanted / max(float(np.linalg.norm(a.eps)), 1e-300) - size
    if constant > BITES and a.eps.any():
        beside = [f for f in s.main.findings if f.code == TOLD]
        if beside:
            return [Finding("ascent.epsilon-too-large", beside[0].evidence)]
        also = " and the weights times 1e-9" if s.algorithm == "rsam" else ""
        what = f"with the loss times 1e-12{also} the norm is no less than"
        return [Finding("ascent.bounded-radius", {what: constant})]
    if s.algorithm != "rsam" and abs(constant - 1e-12) > 2e-13:
        return [Finding(TOLD, {"constant": constant, "expected": 1e-12})]
    return []


LARGE = 1e3
"""The loss times this has gradients that are longer than what anyone cuts them to."""

FAR = 0.01
"""What no rounding does, in a low precision either."""


def large_gradient(s: Setting) -> list[Finding]:
    """With the loss times 1e3 the perturbation is as long as it should be.

    Where it points elsewhere, the gradient was cut before: that is not about the radius.
    """
    seen, a = _one_case(s, Problem(s.seed, LARGE))
    if not np.isfinite(seen.last).all():
        raise SkippedError("it gives no finite numbers")
    if len(seen.points) < 2:
        raise SkippedError("a step takes one gradient")
    along, size = _asked(a, s.algorithm)
    length, wanted = float(np.linalg.norm(a.eps)), s.hyper.rho * float(np.linalg.norm(along)) / size
    if length == 0:
        return [Finding("ascent.bounded-radius", {"with the loss times 1e3 ||eps||": 0.0})]
    if np.linalg.norm(a.eps - length / np.linalg.norm(along) * along) > FAR * length:
        raise SkippedError("the perturbation points elsewhere: the gradient is cut before it")
    if abs(length / wanted - 1) < FAR:
        return []
    evidence = {"with the loss times 1e3 ||eps|| is the radius times": length / wanted}
    if length > wanted:
        evidence["as if the norm were at most"] = size * wanted / length
    return [Finding("ascent.bounded-radius", evidence)]


def _one_case(s: Setting, problem: Problem) -> tuple[Seen, Case]:
    """A step of what is right otherwise, on a problem of its own."""
    s.need_conformance()
    if any(f.code == "ascent.asam-reading" for f in s.main.findings):
        raise SkippedError("ASAM's T is read in another way")
    seen = Seen(problem, watch(s.maker(problem, s.hyper), [s.hyper])[0])
    seen.forget_looks()
    if s.algorithm == "rsam":
        seen.forget_looks_at_w()
    return seen, Case(problem, seen, None)


def _asked(a: Case, algorithm: str) -> tuple[np.ndarray, float]:
    """What eps should point along, (P,), and the norm that should divide it."""
    if algorithm == "asam":
        return a.reach**2 * a.first, float(np.linalg.norm(a.reach * a.first))
    along = a.hyper.lam * a.first + a.draw if algorithm == "rsam" else a.first
    return along, float(np.linalg.norm(along))


def _some_steps(s: Setting, hyper: Hyper) -> tuple[Problem, list[Step]]:
    """A problem of the same seed, and some steps on it with other settings."""
    problem = Problem(s.seed)
    return problem, watch(s.maker(problem, hyper), [hyper] * STEPS)


def no_radius(s: Setting) -> list[Finding]:
    """With rho = 0 a step is the base optimizer's own, with the gradient at w."""
    s.need_conformance()
    problem, steps = _some_steps(s, s.hyper.but(rho=0.0))
    if broken := next((step for step in steps if not is_finite(step)), None):
        return [Finding("limits.rho-zero", {"not finite": where_not_finite(broken)})]
    cases = cases_of(problem, steps)
    for a in cases:  # all gradients are at w; one at the end is a look
        while len(a.seen.points) > 1 and np.array_equal(a.seen.last, a.seen.after):
            a.seen.forget(len(a.seen.points) - 1)
        a.eps = a.seen.last - a.w
    away = max(float(np.linalg.norm(a.eps)) / s.hyper.rho for a in cases)
    if away > max(1e-6, s.main.tolerance):
        return [Finding("limits.rho-zero", {"||eps|| / the usual rho": away})]
    if s.main.update is None or s.main.update.best is None:
        raise SkippedError("the base step is not understood")
    verdict = base_step.judge(cases, s.main.tolerance)
    if verdict.best is None:
        return [Finding("limits.rho-zero", {"differs": "the base step", **verdict.evidence()})]
    if wrong := [code for code in verdict.best.codes if not is_note(code)]:
        evidence = {"the base step": verdict.best.label, "looks like": wrong[0]}
        return [Finding("limits.rho-zero", evidence)]
    return []


def no_noise(s: Setting) -> list[Finding]:
    """With sigma = 0 a step of R-SAM is one of SAM."""
    if s.algorithm != "rsam":
        raise SkippedError("there is no sigma")
    s.need_conformance()
    problem, steps = _some_steps(s, s.hyper.but(sigma=0.0))
    if broken := next((step for step in steps if not is_finite(step)), None):
        return [Finding("limits.sigma-zero", {"not finite": where_not_finite(broken)})]
    found = diagnose(problem, steps, "sam").findings
    if wrong := [f for f in found if not f.note]:
        return [Finding("limits.sigma-zero", {"looks like": wrong[0].code, **wrong[0].evidence})]
    return []
