"""`check`: the main run, its diagnosis, the probes, and a report of it all."""

from __future__ import annotations

import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.diagnosis import Diagnosis, diagnose
from rsam_ref.conformance.observe.forms import FORMS, Maker, form_of
from rsam_ref.conformance.observe.load import load
from rsam_ref.conformance.observe.observer import BrokenError, RaisedError, Step
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.probes import probes
from rsam_ref.conformance.report.report import Finding, Report

ALGORITHMS = ("sam", "asam", "rsam")
RHO = {"sam": 0.4, "asam": 1.5, "rsam": 0.4}

Progress = Callable[[str, int, int], Any]


def check(
    subject: Any,
    algorithm: str = "rsam",
    *,
    form: str | None = None,
    seed: int = 0,
    timeout: float | None = 60.0,
    progress: Progress | None = None,
) -> Report:
    """Hold an implementation against SAM, ASAM or R-SAM, from outside.

    Parameters
    ----------
    subject:
        A function ``train_step(weights, loss_and_grad, state, hyper) -> (weights, state)``; a
        PyTorch optimizer class, or a function ``make(params, hyper)`` that returns an optimizer; or
        a function ``train_step(model, optimizer, loss_fn, batch, hyper)``. Or where one of these
        is to be found: "FILE.py:NAME" or "package.module:NAME".
    algorithm:
        "sam", "asam" or "rsam".
    form:
        "function", "optimizer" or "loop"; found out from the subject if left out.
    seed:
        Of the problem: weights and mini-batches.
    timeout:
        Seconds that each part of the check may take, where the system can interrupt it (in the main
        thread, not on Windows); None for no limit.
    progress:
        Called with what is under way, how many parts are done, and of how many.

    Raises
    ------
    BrokenError
        If the implementation cannot be judged: it raises, returns something else, gives NaN.
    ValueError
        For an unknown algorithm or form.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}")
    if form is not None and form not in FORMS:
        raise ValueError(f"unknown form {form!r}; there are {', '.join(FORMS)}")
    if isinstance(subject, str):
        subject = load(subject)
    maker = Maker(subject, form or form_of(subject), algorithm)
    tell = progress or (lambda what, done, total: None)
    chosen = probes.probes_of(maker.form)
    tell("training", 0, len(chosen) + 1)
    with _same_numbers(seed), _errors_of("training"), _limited(timeout):
        setting = _main_run(maker, algorithm, seed)
    findings = list(setting.main.findings)
    outcomes = {"training": "findings" if findings else "passed", **setting.outcomes}
    for i, (name, probe) in enumerate(chosen.items(), start=1):
        tell(name, i, len(chosen) + 1)
        try:
            with _same_numbers(seed), _errors_of(name), _limited(timeout):
                found = probe(setting)
        except probes.SkippedError as skipped:
            outcomes[name] = f"not done: {skipped}"
            continue
        except BrokenError as error:
            if name not in probes.MUST_RUN or not isinstance(error, RaisedError):
                outcomes[name] = f"not done: {error}"
                continue
            found = [Finding(probes.MUST_RUN[name], {"error": str(error)})]
        known = {finding.code for finding in findings}
        fresh = [Finding(f.code, f.evidence, name) for f in found if f.code not in known]
        findings += fresh
        outcomes[name] = "findings" if fresh else "passed"
    tell("done", len(chosen) + 1, len(chosen) + 1)
    findings.sort(key=lambda finding: (not finding.diverges, finding.note))
    return Report(
        algorithm,
        setting.main.algorithm,
        maker.form,
        findings,
        outcomes,
        _picture(setting.main, algorithm),
    )


def _main_run(maker: Maker, algorithm: str, seed: int) -> probes.Setting:
    problem = Problem(seed)
    hyper = Hyper(rho=RHO[algorithm])
    trial = maker(problem, hyper)
    outcomes: dict[str, str] = {}
    if maker.form == "optimizer":
        hyper = hyper.but(**trial.own)
        if not_passed := trial.not_passed(sum(_settings(algorithm).values(), ())):
            outcomes["settings"] = f"not done: {not_passed}"
    plan = probes.plan_of(trial, hyper)
    steps, resumed, failed = _driven(maker, trial, problem, plan)
    outcomes |= failed
    main = diagnose(problem, steps, algorithm)
    if maker.form == "optimizer":
        main.findings = [_with_circumstances(f, trial, maker) for f in main.findings]
    if maker.contract in ("two-step", "backward-first"):  # the check calls backward, not the class
        main.findings = [f for f in main.findings if f.code != "cost.extra-evaluations"]
    if maker.contract == "backward-first":
        main.findings.append(Finding("contract.backward-first", {"gradients without it": 1}))
    return probes.Setting(maker, seed, algorithm, hyper, main, steps, resumed, outcomes)


def _driven(
    maker: Maker, trial: Any, problem: Problem, plan: list[Hyper]
) -> tuple[list[Step], Any, dict[str, str]]:
    """A run, driven in the first of the possible ways that works, and what failed before.

    R-SAM draws before its first gradient, for which the two-step form has no call: so there its
    step(closure) comes first. Where the closure leads to one gradient only, the ways after it are
    tried as well.
    """
    ways: list[Any] = getattr(trial, "contracts", [None])
    if maker.algorithm == "rsam" and "closure" in ways:
        ways = sorted(ways, key=("closure", "two-step", "backward-first").index)
    errors: dict[Any, BrokenError] = {}
    poor: Any = None
    for way in ways:
        if way == "backward-first" and "closure" in errors:
            continue
        maker.contract = way
        try:
            steps, resumed = _run(maker, problem, plan)
        except MemoryError:
            raise
        except Exception as error:
            errors[way] = _broken(error, "training")
            continue
        if way in (None, "two-step") or any(len(_places(step)) > 1 for step in steps):
            break
        poor = poor or (way, steps, resumed)
    else:
        if poor is None:
            told = next(iter(errors.values()))
            hint = NO_DRAW if maker.algorithm == "rsam" and ways == ["two-step"] else ""
            raise type(told)(f"{told}{hint}") from told
        maker.contract, steps, resumed = poor
    return steps, resumed, {WAYS[way]: f"not done: {error}" for way, error in errors.items()}


def _with_circumstances(finding: Finding, subject: Any, maker: Maker) -> Finding:
    """A finding on an optimizer, with what in the way it was made and driven may be the reason."""
    stage = finding.code.split(".")[0]
    more = {}
    if not_passed := subject.not_passed(_settings(maker.algorithm).get(stage, ())):
        more["not passed"] = not_passed
    if finding.code == "update.unknown" and subject.base:
        more["base optimizer"] = f"{subject.base}: only SGD is judged; make it with SGD"
    undrawn = ("algorithm.sam", "noise.missing", "direction.gradient-at-w")
    if maker.algorithm == "rsam" and maker.contract == "two-step" and finding.code in undrawn:
        more["driven as"] = DRIVEN
    return Finding(finding.code, {**finding.evidence, **more}, finding.where)


def _settings(algorithm: str) -> dict[str, tuple[str, ...]]:
    """The settings that show in each stage."""
    draw = {"noise": ("sigma",), "direction": ("lam",)} if algorithm == "rsam" else {}
    return {"ascent": ("rho",), **draw, "update": ("momentum", "weight_decay")}


DRIVEN = "backward, first_step, backward, second_step"
NO_DRAW = (
    f"; it was driven as {DRIVEN}: R-SAM's draw comes before the first backward, so give the class "
    "a step(closure) that draws, takes both gradients and steps"
)
WAYS = {
    "two-step": "first_step and second_step",
    "closure": "step(closure)",
    "backward-first": "backward, then step(closure)",
}


def _places(step: Step) -> list[bytes]:
    return list({evaluation.at.tobytes() for evaluation in step.evaluations})


def _run(maker: Maker, problem: Problem, plan: list[Hyper]) -> tuple[list[Step], Any]:
    """The steps, and the subject as it was saved and loaded half-way (or the error of that)."""
    subject = maker(problem, plan[0])
    steps: list[Step] = []
    resumed: Any = None
    for number, hyper in enumerate(plan):
        if number == len(plan) // 2:
            try:
                resumed = subject.resumed(hyper)
            except Exception as error:
                resumed = error
        step = Step(number, hyper, subject.weights())
        subject.step(number, hyper, step)
        step.after = subject.weights()
        steps.append(step)
    return steps, resumed


@contextmanager
def _same_numbers(seed: int) -> Iterator[None]:
    """Inside, the global generators begin from the seed; afterwards they are as before.

    Warnings of overflow and the like are not shown: what they lead to is seen.
    """
    torch = sys.modules.get("torch")  # nobody draws from it before it is loaded
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch_before = torch.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if torch:
        torch.manual_seed(seed)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        if torch and torch_before is not None:
            torch.set_rng_state(torch_before)


@contextmanager
def _errors_of(doing: str) -> Iterator[None]:
    """Turns whatever the implementation raises into a `BrokenError` that names its line."""
    try:
        yield
    except (BrokenError, probes.SkippedError, KeyboardInterrupt, MemoryError):
        raise
    except _TimeoutError as error:
        raise BrokenError(
            f"the implementation was stopped: {doing} took more than {error} seconds"
            f"{_line(error.__traceback__)}; does it hang?"
        ) from None
    except BaseException as error:
        raise _broken(error, doing) from error


def _broken(error: BaseException, doing: str) -> BrokenError:
    """What the implementation raised, in a sentence that names its line."""
    if isinstance(error, BrokenError):
        return error
    return RaisedError(
        f"the implementation raised {type(error).__name__}: {error}"
        f"{_line(error.__traceback__)} (in {doing})"
    )


class _TimeoutError(BaseException):
    """Not an Exception, so that the implementation does not catch it."""


@contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """Stops what is inside after so many seconds, where that can be done."""
    possible = hasattr(signal, "setitimer") and (
        threading.current_thread() is threading.main_thread()
    )
    if seconds is None or not possible:
        yield
        return

    def stop(*_: Any) -> None:
        raise _TimeoutError(f"{seconds:g}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _line(traceback: Any) -> str:
    """The last line of the implementation's own code in a traceback."""
    here = Path(__file__).parent
    where = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        path = Path(code.co_filename)
        if here not in path.parents and "torch" not in path.parts and path.name != "contextlib.py":
            where = f", {path.name} line {traceback.tb_lineno}, {code.co_name}"
        traceback = traceback.tb_next
    return where


def _picture(main: Diagnosis, algorithm: str) -> dict[str, Any]:
    """The first step in the plane of the draw and the gradient, from w: named points."""
    if not main.cases or len(main.cases[0].seen.points) < 2:
        return {}
    a = main.cases[0]
    return step_points(a, algorithm)


def step_points(a: Case, algorithm: str) -> dict[str, Any]:
    g0, draw, rho = a.first, a.draw, a.hyper.rho
    across = g0 / (np.linalg.norm(g0) + 1e-300)
    rest = draw - (draw @ across) * across
    if not rest.any():
        rest = a.eps - (a.eps @ across) * across
    up = rest / (np.linalg.norm(rest) + 1e-300)

    def flat(v: np.ndarray) -> list[float]:
        return [float(v @ across), float(v @ up)]

    wanted = a.hyper.lam * g0 + draw if algorithm == "rsam" else g0
    eps = rho * wanted / (np.linalg.norm(wanted) + 1e-12)
    if algorithm == "asam":
        eps = rho * a.reach**2 * g0 / np.linalg.norm(a.reach * g0)
    return {
        "rho": float(rho) if algorithm != "asam" else float(np.linalg.norm(eps)),
        "w + D": flat(draw),
        "expected w + eps": flat(eps),
        "observed w + eps": flat(a.eps),
        "out of the plane": float(
            np.linalg.norm(a.eps - (a.eps @ across) * across - (a.eps @ up) * up)
        ),
    }
