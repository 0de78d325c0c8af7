"""Besides the main run: limits, odd inputs, other types, saving. Each asks one question.

A probe gives findings, or says in a `SkippedError` why the question cannot be asked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.ascent.judge import judge_ascent
from rsam_ref.conformance.base_step import judge as base_step
from rsam_ref.conformance.diagnosis import Diagnosis, diagnose
from rsam_ref.conformance.observe.forms import Maker
from rsam_ref.conformance.observe.observer import BrokenError, Seen, Step, watch
from rsam_ref.conformance.observe.problem import Hyper, Problem, schedule
from rsam_ref.conformance.report.catalogue import CATALOGUE
from rsam_ref.conformance.report.report import Finding


class SkippedError(Exception):
    """A probe was not carried out. The message says why."""


@dataclass
class Setting:
    """What the probes have to work with."""

    maker: Maker
    seed: int
    algorithm: str
    hyper: Hyper
    main: Diagnosis
    steps: list[Step]
    resumed: Any
    """A subject that was saved and loaded after half of the main run."""
    outcomes: dict[str, str]
    """What could not be tried in the main run, and why."""

    @property
    def conforms(self) -> bool:
        return all(finding.note for finding in self.main.findings)

    def need_conformance(self) -> None:
        """For questions that only a right step can be asked."""
        if not self.conforms:
            raise SkippedError("the step diverges already")

    def one_step(self, hyper: Hyper, scale: float = 1.0, dtype: str = "float64") -> Step:
        problem = Problem(self.seed, scale)
        return watch(self.maker(problem, hyper, dtype=dtype), [hyper])[0]


def no_learning_rate(s: Setting) -> list[Finding]:
    """With lr = 0 the weights come back as they were, bit for bit, in float64 and float32."""
    if any(
        f.stage in ("restore", "update") or f.code == "noise.not-removed" for f in s.main.findings
    ):
        raise SkippedError("the step diverges already")
    for dtype in ("float32",) if s.main.single else ("float32", "float64"):
        step = s.one_step(s.hyper.but(lr=0.0), dtype=dtype)
        moved = float(np.abs(step.after - step.before).max())
        if moved > 0:
            return [Finding("restore.by-subtraction", {"in": dtype, "weights move by": moved})]
    return []


def zero_gradient(s: Setting) -> list[Finding]:
    """A gradient of 0 (and no draw) gives eps = 0, never NaN."""
    hyper = s.hyper.but(sigma=0.0)
    problem = Problem(s.seed, 0.0)
    steps = watch(s.maker(problem, hyper), [hyper])
    seen = [e.at for e in steps[0].evaluations] + [steps[0].after]
    if not all(np.isfinite(v).all() for v in seen):
        return [Finding("ascent.nan-at-zero-gradient", {"not finite": _where(steps[0])})]
    return []


def _where(step: Step) -> str:
    bad = [i for i, e in enumerate(step.evaluations) if not np.isfinite(e.at).all()]
    return f"the weights of evaluation {bad[0] + 1}" if bad else "the weights after the step"


def tiny_gradient(s: Setting) -> list[Finding]:
    """With the loss times 1e-12 the constant beside the norm can be seen."""
    if s.algorithm == "rsam":
        raise SkippedError("the draw keeps R-SAM's norm away from 0")
    s.need_conformance()
    if any(f.code == "ascent.asam-reading" for f in s.main.findings):
        raise SkippedError("ASAM's T is read in another way")
    problem = Problem(s.seed, 1e-12)
    step = watch(s.maker(problem, s.hyper), [s.hyper])[0]
    seen = Seen(problem, step)
    seen.forget_looks()
    if not np.isfinite(seen.last).all():
        return [Finding("ascent.nan-at-zero-gradient", {"loss": "times 1e-12"})]
    if len(seen.points) < 2:
        return [Finding("precision.epsilon", {"||eps||": 0.0, "loss": "times 1e-12"})]
    a = Case(problem, seen, None)
    measured = a.reach * a.first if s.algorithm == "asam" else a.first
    along = a.reach * measured if s.algorithm == "asam" else measured
    size = float(np.linalg.norm(measured))
    wanted = s.hyper.rho * float(np.linalg.norm(along))
    constant = wanted / max(float(np.linalg.norm(a.eps)), 1e-300) - size
    if abs(constant - 1e-12) > 2e-13:
        return [Finding("precision.epsilon", {"constant": constant, "expected": 1e-12})]
    return []


def no_radius(s: Setting) -> list[Finding]:
    """With rho = 0 a step is the base optimizer's."""
    s.need_conformance()
    hyper = s.hyper.but(rho=0.0)
    step = s.one_step(hyper)
    problem = Problem(s.seed)
    _, gradient = problem.loss_and_grad(step.before, 0)
    wanted = step.before - hyper.lr * (gradient + hyper.weight_decay * step.before)
    return _compared("limits.rho-zero", step, wanted, s)


def no_noise(s: Setting) -> list[Finding]:
    """With sigma = 0 a step of R-SAM is one of SAM."""
    if s.algorithm != "rsam":
        raise SkippedError("there is no sigma")
    s.need_conformance()
    hyper = s.hyper.but(sigma=0.0)
    step = s.one_step(hyper)
    problem = Problem(s.seed)
    _, first = problem.loss_and_grad(step.before, 0)
    eps = hyper.rho * first / np.linalg.norm(first)
    _, gradient = problem.loss_and_grad(step.before + eps, 0)
    wanted = step.before - hyper.lr * (gradient + hyper.weight_decay * step.before)
    return _compared("limits.sigma-zero", step, wanted, s)


def _compared(code: str, step: Step, wanted: np.ndarray, s: Setting) -> list[Finding]:
    if not np.isfinite(step.after).all():
        return [Finding(code, {"not finite": _where(step)})]
    error = np.linalg.norm(step.after - wanted) / np.linalg.norm(wanted - step.before)
    if error > max(1e-6, s.main.tolerance):
        return [Finding(code, {"relative error of the step": float(error)})]
    return []


def save_and_resume(s: Setting) -> list[Finding]:
    """A run that was saved and loaded half-way goes on as if nothing had happened."""
    if isinstance(s.resumed, Exception):
        return [Finding("resume.fails", {"error": f"{type(s.resumed).__name__}: {s.resumed}"})]
    update = s.main.update
    if update is None or update.best is None:
        raise SkippedError("the base step is not understood")
    problem, half = s.main.cases[0].problem, len(s.steps) // 2
    rest = watch(s.resumed, [step.hyper for step in s.steps[half:]], half)
    cases: list[Case] = []
    for step in [*s.steps[:half], *rest]:
        if not np.isfinite(step.after).all():
            return [Finding("resume.hidden-state", {"not finite": _where(step)})]
        seen = Seen(problem, step)
        seen.forget_looks()
        cases.append(Case(problem, seen, cases[-1] if cases else None))
    more = base_step.mixtures if s.main.mixed else None
    verdict = base_step.judge_base_step(cases, s.main.tolerance, more=more)
    if verdict.best is not None and verdict.best.codes == update.best.codes:
        if s.conforms and len(cases[0].seen.points) == 2:
            ascent = judge_ascent(cases, s.algorithm, s.algorithm == "rsam", s.main.tolerance)
            if ascent.best is None or not all(map(_is_note, ascent.best.codes)):
                return [Finding("resume.hidden-state", {"differs": "the ascent"})]
        return []
    afresh = base_step.judge_base_step(cases[half:], s.main.tolerance, more=more)  # with velocity 0
    if afresh.best is not None:
        changed = set(afresh.best.codes) - set(update.best.codes)
        if changed <= {"update.lr-ignored"}:
            lr_lost = "changes of lr no longer reach the base optimizer"
            if changed and not _remembers(s.hyper, update.best.codes):
                return [Finding("resume.hidden-state", {"differs": lr_lost})]
            evidence: dict[str, Any] = {"error, from velocity 0": afresh.error}
            if changed:
                evidence["besides"] = lr_lost
            return [Finding("resume.momentum-lost", evidence)]
    return [Finding("resume.hidden-state", {"differs": "the base step"})]


def _remembers(hyper: Hyper, codes: tuple[str, ...]) -> bool:
    """Whether the base step has a momentum that could be lost."""
    without = hyper.momentum == 0 or "update.momentum-missing" in codes
    return "update.adam" in codes or not without


def _is_note(code: str) -> bool:
    return CATALOGUE[code].note


def kept_types(s: Setting) -> list[Finding]:
    """The weights keep their type, float32 or float64."""
    for dtype in ("float32", "float64"):
        subject = s.maker(Problem(s.seed), s.hyper, dtype=dtype)
        subject.step(0, s.hyper, Step(0, s.hyper, subject.weights()))
        parts = getattr(subject, "parts", None)
        if isinstance(parts, list) and any(part.dtype != dtype for part in parts):
            evidence = {"given": dtype, "got": str(parts[0].dtype)}
            return [Finding("precision.type-changed", evidence)]
    return []


def half_precision(s: Setting) -> list[Finding]:
    """In float16 a gradient of length 1,000 has a square that float16 cannot hold."""
    s.need_conformance()
    problem = Problem(s.seed, 400.0)
    try:
        step = watch(s.maker(problem, s.hyper, dtype="float16"), [s.hyper])[0]
    except BrokenError:
        raise
    except Exception as error:
        raise SkippedError(f"float16 is not taken: {type(error).__name__}: {error}") from None
    seen = Seen(problem, step)
    seen.forget_looks()
    eps = seen.last - step.before
    length = float(np.linalg.norm(eps))
    wanted = s.hyper.rho
    if s.algorithm == "asam":
        wanted = wanted * float(np.median(np.abs(step.before)))  # of that order
    low, high = (0.05, 100.0) if s.algorithm == "asam" else (0.7, 1.4)
    if not math.isfinite(length) or not low < length / wanted < high:
        return [Finding("precision.float16-overflow", {"||eps|| / rho": length / s.hyper.rho})]
    return []


def parameter_groups(s: Setting) -> list[Finding]:
    """Two groups, each with its own rho: one norm over both, each group by its own rho."""
    from rsam_ref.conformance.observe.torch_forms import group_of

    problem = Problem(s.seed)
    own = getattr(s.maker(problem, s.hyper).optimizer, "param_groups", [])
    if not any("rho" in group for group in own):
        raise SkippedError("its groups have no rho")
    try:
        subject = s.maker(problem, s.hyper, grouped=True)
    except BrokenError as error:
        raise SkippedError(f"groups are not taken: {error}") from None
    steps = watch(subject, [s.hyper] * 3)
    if not all(np.isfinite(step.after).all() for step in steps):
        return [Finding("ascent.unknown", {"not finite": "with two parameter groups"})]
    found = diagnose(problem, steps, s.algorithm, group_of(problem)).findings
    known = {f.code for f in s.main.findings}
    if any(not f.note for f in s.main.findings):
        return [f for f in found if f.code in GROUP_CODES]
    return [f for f in found if f.code not in known]


GROUP_CODES = ("ascent.norm-per-group", "ascent.one-rho-for-all-groups")


def missing_gradients(s: Setting) -> list[Finding]:
    """A parameter that has a gradient in one of the passes only."""
    from rsam_ref.conformance.observe.torch_forms import Net

    if any(f.stage == "restore" for f in s.main.findings):
        raise SkippedError("the step diverges already")
    found, moves = [], {}
    for passes in ((0,), (1,)):
        problem = Problem(s.seed)
        net = Net(extra_in=passes)
        before = net.extra.detach().clone()
        hyper = s.hyper.but(lr=0.0)
        try:
            watch(s.maker(problem, hyper, net=net), [hyper])
        except BrokenError:
            raise
        except Exception as error:
            what = {"used in pass": passes[0] + 1, "error": f"{type(error).__name__}: {error}"}
            found.append(Finding("limits.missing-gradient", what))
            continue
        moved = float((net.extra.detach().double() - before.double()).norm())
        if not moved < 1e-6:
            moves[passes[0] + 1] = moved
    if moves:
        used = " or ".join(map(str, moves))
        what = {"used in pass": used, "at lr = 0 it moves by": max(moves.values())}
        found.append(Finding("restore.skipped-without-gradient", what))
    return found


def accumulation(s: Setting) -> list[Finding]:
    """Every pass in two backward calls, of half of the mini-batch each."""
    s.need_conformance()
    problem = Problem(s.seed)
    plan = [s.hyper] * 3
    found = diagnose(problem, watch(s.maker(problem, s.hyper, parts=2), plan), s.algorithm)
    wrong = [f for f in found.findings if not f.note]
    return [Finding("limits.accumulation", {"looks like": wrong[0].code})] if wrong else []


def batch_norm(s: Setting) -> list[Finding]:
    """Running statistics move once a step, by the first pass."""
    from rsam_ref.conformance.observe.torch_forms import statistics_moves

    moves = statistics_moves(s.maker.subject, Problem(s.seed), s.hyper)
    codes = {
        (): "batch-norm.frozen",
        ("second",): "batch-norm.moved-by-second-pass",
        ("first", "second"): "batch-norm.moved-twice",
        ("other",): "batch-norm.moved-twice",
    }
    code = codes.get(tuple(moves))
    return [Finding(code, {"moved by": " and ".join(moves) or "no pass"})] if code else []


Probe = Callable[[Setting], list[Finding]]

ALL: dict[str, Probe] = {
    "save and resume": save_and_resume,
    "lr = 0": no_learning_rate,
    "rho = 0": no_radius,
    "sigma = 0": no_noise,
    "zero gradient": zero_gradient,
    "loss x 1e-12": tiny_gradient,
    "types": kept_types,
    "float16": half_precision,
}
MUST_RUN = {
    "rho = 0": "limits.rho-zero",
    "sigma = 0": "limits.sigma-zero",
    "zero gradient": "ascent.nan-at-zero-gradient",
}
"""Limits that an error breaks as well, and by which code."""

OPTIMIZER: dict[str, Probe] = {
    "two groups": parameter_groups,
    "missing gradients": missing_gradients,
    "accumulation": accumulation,
}
LOOP: dict[str, Probe] = {"batch norm": batch_norm}


def probes_of(form: str) -> dict[str, Probe]:
    return {**ALL, **{"optimizer": OPTIMIZER, "loop": LOOP}.get(form, {})}


def plan_of(subject: Any, hyper: Hyper) -> list[Hyper]:
    """The main run's settings: those that cannot be changed from outside stay as they are."""
    plan = schedule(hyper)
    if subject.form != "optimizer":
        return plan
    fixed = [name for name in ("rho", "sigma", "lam") if not subject.settable(name)]
    return [h.but(**{name: getattr(hyper, name) for name in fixed}) for h in plan]
