"""`check`: the main run, its diagnosis, the probes, and a report of it all."""

from __future__ import annotations

import importlib
import inspect
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rsam_ref.conformance import processes as several
from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step import varied
from rsam_ref.conformance.base_step.asked import (
    held_to,
    refuse_unknown_base,
    without_hidden_nesterov,
)
from rsam_ref.conformance.diagnosis import Diagnosis, diagnose
from rsam_ref.conformance.driving import Driven, Driving
from rsam_ref.conformance.observe.compiled import run_as_written
from rsam_ref.conformance.observe.forms import FORMS, OWN_PASSES, Maker, form_of
from rsam_ref.conformance.observe.guesses import in_words
from rsam_ref.conformance.observe.load import load
from rsam_ref.conformance.observe.names import BASE_SETTINGS, SETTINGS
from rsam_ref.conformance.observe.observer import BrokenError, RaisedError, watch
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.observe.words import named
from rsam_ref.conformance.probes import probes
from rsam_ref.conformance.probes.loaders import ONE_PASS
from rsam_ref.conformance.probes.modes import NO_ASCENT, perturbs_norms_alone
from rsam_ref.conformance.probes.setting import cases_of
from rsam_ref.conformance.report.report import Finding, Report

ALGORITHMS = ("sam", "asam", "rsam")
RHO = {"sam": 0.4, "asam": 1.5, "rsam": 0.4}

Progress = Callable[[str, int, int], Any]


def check(
    subject: Any,
    algorithm: str = "rsam",
    *,
    form: str | None = None,
    base: str | None = None,
    seed: int = 0,
    timeout: float | None = 60.0,
    progress: Progress | None = None,
    processes: int = 1,
) -> Report:
    """Hold an implementation against SAM, ASAM or R-SAM, from outside.

    Parameters
    ----------
    subject:
        A function ``train_step(weights, loss_and_grad, state, hyper) -> (weights, state)``, or
        one that returns a gradient; a class with ``step(loss_and_grad, w)`` on NumPy arrays; a
        PyTorch optimizer class, or a function ``make(params, hyper)`` that returns an optimizer;
        a function ``train_step(model, optimizer, loss_fn, batch, hyper)``; a LightningModule class;
        an optax transformation, or ``make(hyper)`` that returns one; a step in JAX or MLX; a
        `keras.Model`. Or where one of these is to be found: "FILE.py:NAME" or
        "package.module:NAME".
    algorithm:
        "sam", "asam" or "rsam".
    form:
        "function", "optimizer", "loop", "lightning", "optax", "jax", "keras" or "mlx"; found out
        from the subject if left out.
    base:
        The base optimizer that it has to step with, such as "sgd" or "adamw"; by default that is
        its own affair, and a note tells of one that is not SGD.
    seed:
        Of the problem: weights and mini-batches.
    timeout:
        Seconds that each part of the check may take, where the system can interrupt it (in the main
        thread, not on Windows); None for no limit.
    progress:
        Called with what is under way, how many parts are done, and of how many.
    processes:
        How many take part, each with a part of the mini-batch; for a PyTorch training step, whose
        model is then wrapped in DistributedDataParallel. Of the check there is the training alone.

    Raises
    ------
    BrokenError
        If the implementation cannot be judged: it raises, returns something else, gives NaN.
    ValueError
        For an unknown algorithm or form, and a seed or a timeout that cannot be.
    """
    refuse_settings(algorithm, form, seed, timeout)
    target = several.name_of(subject) if processes > 1 else ""
    if isinstance(subject, str):
        subject = _loaded(subject, timeout)
    refuse_unknown_base(base, subject)
    try:
        return _checked(subject, target, algorithm, form, base, seed, timeout, progress, processes)
    except BrokenError as error:
        if (own := _own_form(subject, form)) is None:
            raise
        hint = f"by its parameters it is of the form {own}, not {form}"
        raise type(error)(f"{error}; {hint}") from error


def _checked(
    subject: Any,
    target: str,
    algorithm: str,
    form: str | None,
    base: str | None,
    seed: int,
    timeout: float | None,
    progress: Progress | None,
    processes: int,
) -> Report:
    maker = Maker(subject, form or form_of(subject), algorithm)
    tell = progress or (lambda what, done, total: None)
    if maker.form in ("optimizer", *OWN_PASSES):
        with suppress(ImportError):  # said by the maker; loaded here, for it to be in one thread
            importlib.import_module("torch")
    with run_as_written(subject) as compiled:
        if processes > 1:
            report = _in_processes(maker, target, algorithm, base, seed, timeout, processes)
        else:
            report = _report(maker, algorithm, base, seed, timeout, tell)
    if compiled:
        report.probes["torch.compile"] = compiled[0]
    return report


MOST_SECONDS, MOST_SEED = 1e6, 2**32 - 1
"""What a clock can be set to, and what NumPy's global generator begins from."""


def refuse_settings(algorithm: str, form: str | None, seed: int, timeout: float | None) -> None:
    """Raises ValueError for what no implementation could be checked with."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}")
    if form is not None and form not in FORMS:
        raise ValueError(f"unknown form {form!r}; there are {', '.join(FORMS)}")
    if not 0 <= seed <= MOST_SEED:
        raise ValueError(f"--seed must be a whole number from 0 to {MOST_SEED}, not {seed}")
    if timeout is not None and not 0 < timeout <= MOST_SECONDS:
        most = f"{MOST_SECONDS:,.0f}"
        raise ValueError(f"--timeout is in seconds, more than 0 and up to {most}, not {timeout:g}")


def _loaded(target: str, timeout: float | None) -> Any:
    """What the name stands for, if it can be loaded in time."""
    try:
        with _limited(timeout):
            return load(target)
    except BrokenError as error:
        if isinstance(cause := error.__cause__, _TimeoutError):
            raise _stopped(cause, "loading it") from None
        raise


def _own_form(subject: Any, form: str | None) -> str | None:
    """The form that it seems to have, where another one was asked for."""
    if form is None:
        return None
    try:
        own = form_of(subject)
    except BrokenError:
        return None
    return own if own != form else None


def _report(
    maker: Maker,
    algorithm: str,
    base: str | None,
    seed: int,
    timeout: float | None,
    tell: Progress,
) -> Report:
    tell("training", 0, len(probes.probes_of(maker.form, [])) + 1)
    try:
        with _one_thread(), _same_numbers(seed), _errors_of("training"), _limited(timeout):
            setting, driving, driven = _main_run(maker, algorithm, seed)
    except RaisedError as error:
        with _one_thread(), _same_numbers(seed), _limited(timeout):
            raise _where_norms_are(error, maker, algorithm, seed) from None
    _tell_use_of_settings(setting, driven, timeout)
    _tell_guesses(driving, driven, setting.main, seed, timeout)
    with _one_thread(), _same_numbers(seed), _errors_of("training"), _limited(timeout):
        others = driving.others(driven, setting.main)
    takes_loader = getattr(driven.subject, "takes_loader", False)
    chosen = probes.probes_of(maker.form, driven.steps, takes_loader)
    findings = held_to(base, [*setting.main.findings, *others])
    outcomes = {"training": "findings" if findings else "passed", **setting.outcomes}
    for i, (name, probe) in enumerate(chosen.items(), start=1):
        tell(name, i, len(chosen) + 1)
        if (reason := _cannot_ask(name, maker, driven)) is not None:
            outcomes[name] = f"not done: {reason}"
            continue
        try:
            with _one_thread(), _same_numbers(seed), _errors_of(name), _limited(timeout):
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
        fresh = [replace(f, where=name) for f in found if f.code not in known]
        fresh = [_if_guessed(f, driven) for f in fresh]
        findings += fresh
        outcomes[name] = "findings" if fresh else "passed"
    for better in [f for f in findings if f.where != "training" and f.code in LOOKS_LIKE]:
        seems = (*LOOKS_LIKE[better.code], better.code)
        findings = [better, *(f for f in findings if f.code not in seems)]
        setting.main.algorithm = None
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


LOOKS_LIKE = {
    "ascent.norm-layers-only": NO_ASCENT,
    "update.other-batch": ONE_PASS,
    "ascent.epsilon-too-large": ("precision.epsilon",),
}
"""What a probe finds out, and what that looks like in the main run."""


def _where_norms_are(error: RaisedError, maker: Maker, algorithm: str, seed: int) -> RaisedError:
    """The error, with its reason where the implementation perturbs normalisation layers alone."""
    in_torch = maker.form in ("optimizer", *OWN_PASSES)
    if in_torch and perturbs_norms_alone(maker, seed, Hyper(rho=RHO[algorithm])):
        return RaisedError(f"{error}; {NORMS_ALONE}")
    return error


def _in_processes(
    maker: Maker,
    target: str,
    algorithm: str,
    base: str | None,
    seed: int,
    timeout: float | None,
    count: int,
) -> Report:
    several.refuse_other_forms(maker.form)
    with (
        _one_thread(),
        _same_numbers(seed),
        _errors_of("training"),
        _limited(timeout),
        several.others_started(target, algorithm, seed, count) as place,
    ):
        driving = _driving(maker, algorithm, seed)
        driven, workers = several.take_part(driving, maker, 0, count, place)
        main = several.judge(driven, workers, algorithm, seed)
    findings = [_with_circumstances(f, driven, maker) for f in main.findings]
    findings = held_to(base, findings)
    findings.sort(key=lambda finding: (not finding.diverges, finding.note))
    told = f"not done: in {count} processes the training is judged alone"
    outcomes = {"training": "findings", **driven.outcomes, "everything else": told}
    picture = _picture(main, algorithm)
    return Report(algorithm, main.algorithm, maker.form, findings, outcomes, picture)


def worker(target: str, algorithm: str, seed: int, rank: int, count: int, place: Path) -> None:
    """Take part in a check in several processes, as another than the first."""
    importlib.import_module("torch")
    subject = load(target)
    maker = Maker(subject, form_of(subject), algorithm)
    several.ready(place, rank).touch()
    with run_as_written(subject), _one_thread(), _same_numbers(seed + rank):
        driving = _driving(maker, algorithm, seed, rank)
        several.take_part(driving, maker, rank, count, place)


def _driving(maker: Maker, algorithm: str, seed: int, rank: int = 0) -> Driving:
    told = partial(_broken, doing="training")
    hyper = Hyper(rho=RHO[algorithm])
    return Driving(maker, Problem(seed), hyper, told, _afresh(seed + rank))


def _main_run(maker: Maker, algorithm: str, seed: int) -> tuple[probes.Setting, Driving, Driven]:
    driving = _driving(maker, algorithm, seed)
    driven = driving.carry_out()
    main = diagnose(driving.problem, driven.steps, algorithm)
    main.findings = without_hidden_nesterov(
        main.findings,
        inspect.isclass(maker.subject),
        "nesterov" in getattr(driven.subject, "taken", ()),
        driven.steps[0].base.settings,
    )
    main.findings = [_with_circumstances(f, driven, maker) for f in main.findings]
    if maker.contract in ("two-step", "three-step", "backward-first"):
        # It is the check that calls backward, not the class.
        main.findings = [f for f in main.findings if f.code != "cost.extra-evaluations"]
    main.findings += driven.findings
    return (
        probes.Setting(
            maker,
            seed,
            algorithm,
            driven.hyper,
            main,
            driven.steps,
            driven.resumed,
            driven.outcomes,
            driven.others,
        ),
        driving,
        driven,
    )


def _with_circumstances(finding: Finding, driven: Driven, maker: Maker) -> Finding:
    """A finding with what in the way it was made and driven may be the reason."""
    stage = finding.code.split(".")[0]
    settings = _settings(maker.algorithm).get(stage, ())
    more = {}
    if told := driven.not_passed(settings):
        more["not passed"] = told
    way = getattr(maker.way, "name", "")
    undrawn = ("algorithm.sam", "noise.missing", "direction.gradient-at-w")
    if maker.algorithm == "rsam" and way == "two-step" and finding.code in undrawn:
        more["driven as"] = str(maker.way)
    conditional = bool(driven.unread & set(settings)) and finding.code in MAY_COME_FROM
    return replace(finding, evidence={**finding.evidence, **more}, conditional=conditional)


def _tell_guesses(
    driving: Driving, driven: Driven, main: Diagnosis, seed: int, timeout: float | None
) -> None:
    """What was guessed is told, and marked where other guesses give something else."""
    driving.tell_guesses(driven)
    if not driven.guesses:
        return
    with (
        suppress(BrokenError),  # it takes too long: then all that a guess may give is marked
        _one_thread(),
        _same_numbers(seed),
        _errors_of("training with other guesses"),
        _limited(timeout),
    ):
        driving.try_other_guesses(driven)
    main.findings = [_if_guessed(f, driven) for f in main.findings]


def _tell_use_of_settings(setting: probes.Setting, driven: Driven, timeout: float | None) -> None:
    """Where the base step fits no rule, or SGD with values of its own: whether it is that of SGD
    with settings that were passed and are used wrongly, and which.
    """
    main = setting.main
    unsure = [f for f in main.findings if _may_use_settings_wrongly(f)]
    if not unsure or getattr(driven.subject, "makes_base_step", False):
        return
    passed = set(SETTINGS) - set(driven.subject.missing)

    def run(hyper: Hyper, elsewhere: bool) -> list[Case]:
        problem = Problem(setting.seed + elsewhere)
        _afresh(setting.seed)()
        subject = setting.maker(problem, hyper)
        return cases_of(problem, watch(subject, [hyper] * varied.STEPS))

    wrong: list[Finding] = []
    with (
        suppress(BrokenError),  # a value that it refuses tells nothing
        _one_thread(),
        _same_numbers(setting.seed),
        _errors_of("training with other settings"),
        _limited(timeout),
    ):
        wrong = varied.findings(run, driven.hyper, passed, main.tolerance)
        unknown = next((f for f in unsure if f.code == "update.not-judged"), None)
        of_sgd = setting.maker.form in PROMISE_SGD and "momentum" in passed
        if not wrong and unknown is not None and of_sgd and "when" in unknown.evidence:
            wrong = [replace(unknown, code="update.unknown")]
        if (
            not wrong
            and unknown is not None
            and of_sgd
            and varied.is_velocity(run, driven.hyper, passed, main.tolerance)
        ):
            wrong = [Finding("update.unknown", {**unknown.evidence, **NOT_THE_GRADIENT})]
    if wrong:
        main.findings = [f for f in main.findings if f not in unsure] + wrong


def _may_use_settings_wrongly(finding: Finding) -> bool:
    """Whether more can be told of a base step by changing its settings."""
    its_own = str(finding.evidence.get("explanation", ""))
    own_sgd = finding.code == "update.own-base" and its_own.endswith(": its own)")
    return own_sgd or finding.code in (
        "update.not-judged",
        "update.own-step-size",
        "update.unknown",
    )


PROMISE_SGD = ("function", "loop", "jax")
"""The forms in which a momentum that is taken from the check's settings is SGD's."""

NOT_THE_GRADIENT = {
    "the velocity": "is SGD's, and what goes into it is not g + weight_decay w",
}


def _if_guessed(finding: Finding, driven: Driven) -> Finding:
    """A finding, with the guess that it may come from."""
    if not driven.may_come_from_a_guess(finding.code):
        return finding
    evidence = {**finding.evidence, "guessed": in_words(driven.guesses)}
    return replace(finding, evidence=evidence, conditional=True)


def _settings(algorithm: str) -> dict[str, tuple[str, ...]]:
    """The settings that show in each stage."""
    draw = {"noise": ("sigma",), "direction": ("lam",)} if algorithm == "rsam" else {}
    return {"ascent": ("rho",), **draw, "update": BASE_SETTINGS}


NORMS_ALONE = (
    "the network of this check has no normalisation layers, and on one that has, these alone are"
    " perturbed (as SAM-ON does)"
)

MAY_COME_FROM = [
    "ascent.wrong-radius",
    "ascent.radius-ignored",
    "ascent.radius-scheduled",
    "ascent.unknown",
    "noise.wrong-size",
    "noise.sigma-ignored",
    "direction.lam-ignored",
    "direction.wrong-weights",
    "update.unknown",
    "update.momentum-missing",
    "update.decay-missing",
    "update.lr-ignored",
    "update.scaled-gradient",
]
"""Findings that a setting alone explains, where it is not known."""

NEEDS = {
    "lr = 0": ("lr",),
    "rho = 0": ("rho",),
    "sigma = 0": ("sigma",),
    "missing gradients": ("lr",),
}
"""The settings that a probe must be able to change."""

NEEDS_THE_LOSS = ("zero gradient", "loss x 1e-12", "loss x 1e3", "float16")


def _cannot_ask(name: str, maker: Maker, driven: Driven) -> str | None:
    """Why a probe makes no sense for what is checked; None where it does."""
    for setting in NEEDS.get(name, ()):
        if setting in driven.subject.missing and setting in maker.asked:
            return f"{setting} could not be passed"
    if name in NEEDS_THE_LOSS and getattr(driven.subject.problem, "own_loss", False):
        return "the loss is its own, and cannot be made larger or smaller"
    if name == "float16" and maker.form in ("function", "optax", "jax") and "jax" in sys.modules:
        return "JAX compiles everything anew for each type, which takes long"
    return None


@contextmanager
def _same_numbers(seed: int) -> Iterator[None]:
    """Inside, the global generators begin from the seed; afterwards they are as before.

    Warnings of overflow and the like are not shown: what they lead to is seen.
    """
    torch = sys.modules.get("torch")  # nobody draws from it before it is loaded
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch_before = torch.get_rng_state() if torch else None
    _afresh(seed)()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        if torch and torch_before is not None:
            torch.set_rng_state(torch_before)


def _afresh(seed: int) -> Callable[[], None]:
    """Sets the global generators to where a check begins."""

    def set_back() -> None:
        random.seed(seed)
        np.random.seed(seed % (MOST_SEED + 1))  # noqa: NPY002
        if torch := sys.modules.get("torch"):
            torch.manual_seed(seed)
        if mlx := sys.modules.get("mlx.core"):
            mlx.random.seed(seed)

    return set_back


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inside, torch computes in one thread: the networks here are too small for more."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch and before != 1:
            torch.set_num_threads(before)


@contextmanager
def _errors_of(doing: str) -> Iterator[None]:
    """Turns whatever the implementation raises into a `BrokenError` that names its line."""
    try:
        yield
    except (BrokenError, probes.SkippedError, KeyboardInterrupt, MemoryError):
        raise
    except _TimeoutError as error:
        raise _stopped(error, doing) from None
    except BaseException as error:
        raise _broken(error, doing) from error


def _stopped(error: BaseException, doing: str) -> BrokenError:
    return BrokenError(
        f"the implementation was stopped: {doing} took more than {error} seconds"
        f"{_line(error.__traceback__)}; does it hang?"
    )


def _broken(error: BaseException, doing: str) -> BrokenError:
    """What the implementation raised, in a sentence that names its line."""
    if isinstance(error, BrokenError):
        return error
    return RaisedError(f"{raised(error)} (in {doing})")


def raised(error: BaseException) -> str:
    """What the implementation raised, and where in its code."""
    return f"the implementation raised {named(error)}{_line(error.__traceback__)}"


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


def _unit_across(v: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The direction of v's part across a unit vector; 0 where that part is v's rounding alone."""
    rest = v - (v @ unit) * unit
    rest -= (rest @ unit) * unit  # what is left of a small rest is not across yet
    length = np.linalg.norm(rest)
    return rest / length if length > 1e-12 * np.linalg.norm(v) else 0 * rest


def step_points(a: Case, algorithm: str) -> dict[str, Any]:
    g0, draw, rho = a.first, a.draw, a.hyper.rho
    across = g0 / (np.linalg.norm(g0) + 1e-300)
    up = _unit_across(draw if draw.any() else a.eps, across)

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
