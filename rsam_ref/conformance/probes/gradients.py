"""Gradients that are missing in a pass, or come in parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_ref.conformance.diagnosis import diagnose
from rsam_ref.conformance.observe.observer import BrokenError, Step, watch
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.probes.setting import Setting, SkippedError
from rsam_ref.conformance.report.report import Finding


def missing_gradients(s: Setting) -> list[Finding]:
    """A parameter that has a gradient in one of the passes only.

    It is tried with lr = 0, where what is not put back stands out; where the step raises there or
    lr = 0 does not hold the weights, with the usual lr: then what ends where the second gradient
    was taken was not put back.
    """
    if any(f.stage == "restore" and not f.note for f in s.main.findings):
        raise SkippedError("the step diverges already")
    hyper = _still(s)
    found, moves = [], {}
    for passes in ((0,), (1,)):
        try:
            before, perturbed, after = _with_extra(s, hyper, passes)
        except BrokenError:
            raise
        except Exception as error:
            what = {"used in pass": passes[0] + 1, "error": f"{type(error).__name__}: {error}"}
            found.append(Finding("limits.missing-gradient", what))
            continue
        if hyper.lr == 0:
            moved = float(np.linalg.norm(after - before))
        else:  # it moves in any case: where to?
            away = float(np.linalg.norm(perturbed - before))
            kept = float(np.linalg.norm(after - perturbed))
            moved = away if away > 1e-6 and kept < 1e-6 * away else 0.0
        if not moved < 1e-6:
            moves[passes[0] + 1] = moved
    if moves:
        used = " or ".join(map(str, moves))
        label = "at lr = 0 it moves by" if hyper.lr == 0 else "it stays at w + eps, away by"
        found.append(
            Finding(
                "restore.skipped-without-gradient",
                {"used in pass": used, label: max(moves.values())},
            )
        )
    return found


def _still(s: Setting) -> Hyper:
    """lr = 0, where that holds the weights; or else the usual settings."""
    hyper = s.hyper.but(lr=0.0)
    try:
        step = s.one_step(hyper)
    except Exception:
        return s.hyper
    holds = float(np.abs(step.after - step.before).max()) < 1e-6
    return hyper if holds else s.hyper


def _with_extra(s: Setting, hyper: Hyper, passes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """The extra parameter before a step, in the second pass, and after the step."""
    from rsam_ref.conformance.observe.torch_forms import Net

    net = Net(extra_in=passes)
    subject = s.maker(Problem(s.seed), hyper, net=net)
    before = net.extra.detach().double().numpy().copy()
    seen, watched = [before], net.watch

    def watch_extra(ran: Any, x: Any, out: Any) -> None:
        seen.append(ran.extra.detach().double().numpy().copy())
        watched(ran, x, out)

    net.watch = watch_extra
    watch(subject, [hyper])
    return before, seen[-1], net.extra.detach().double().numpy().copy()


def accumulation(s: Setting) -> list[Finding]:
    """Every pass in two backward calls, of half of the mini-batch each."""
    s.need_conformance()
    problem = Problem(s.seed)
    plan = [s.hyper] * 3
    found = diagnose(problem, watch(s.maker(problem, s.hyper, parts=2), plan), s.algorithm)
    wrong = [f for f in found.findings if not f.note]
    return [Finding("limits.accumulation", {"looks like": wrong[0].code})] if wrong else []


def infinite_gradient(s: Setting) -> list[Finding]:
    """Halves under a gradient scaler: the first pass overflows, and the step is skipped.

    Gradients of 0 at lr = 0 stand for the step that is skipped: what is left is the way back. A
    scaler takes no closure, so only halves can meet it.
    """
    if s.maker.contract != "two-step":
        raise SkippedError("a gradient scaler takes no closure")
    if any(f.stage == "restore" and not f.note for f in s.main.findings):
        raise SkippedError("the step diverges already")
    hyper = _still(s)
    if hyper.lr:
        raise SkippedError("the weights move at lr = 0")
    subject = s.maker(Problem(s.seed), hyper)
    for p in subject.judged:
        p.register_hook(_overflowing())
    step = Step(0, hyper, subject.weights())
    subject.step(0, hyper, step)
    after = subject.weights()
    if np.isfinite(after).all():
        return []
    return [Finding("precision.overflow-stays", {"not finite": "the weights after the step"})]


def _overflowing() -> Any:
    """A hook that makes a tensor's first gradient infinite, and all others 0."""
    calls: list[int] = []

    def hook(g: Any) -> Any:
        calls.append(1)
        return g.new_full(g.shape, np.inf if len(calls) == 1 else 0.0)

    return hook
