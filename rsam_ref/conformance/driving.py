"""Driving an implementation: how it is called, with which settings, and the main run.

What its names do not tell is found by trying. Then all of its steps are taken in one way; where a
class has two, the other one is judged for itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from rsam_ref.conformance.diagnosis import Diagnosis, diagnose
from rsam_ref.conformance.observe.forms import Maker
from rsam_ref.conformance.observe.frameworks import is_numpy_alone
from rsam_ref.conformance.observe.function_form import DICT, LISTS, VECTOR, Way
from rsam_ref.conformance.observe.guesses import in_words, other_guesses
from rsam_ref.conformance.observe.hints import what_to_write
from rsam_ref.conformance.observe.names import SETTINGS
from rsam_ref.conformance.observe.observer import BrokenError, RaisedError, Step, watch
from rsam_ref.conformance.observe.own_values import own_values
from rsam_ref.conformance.observe.places import Found
from rsam_ref.conformance.observe.problem import Hyper, Problem, schedule
from rsam_ref.conformance.report.report import Finding

Told = Callable[[BaseException], BrokenError]
"""Turns what an implementation raised into a message that names its line."""

CHANGED = ("rho", "sigma", "lam", "lr")
"""The settings that the main run changes from step to step."""

STEP = ("algorithm", "noise", "direction", "ascent", "update")
"""The stages in which a number that was guessed may show."""

WITHOUT_GRAD = ("does not require grad", "grad_fn", "grad can be implicitly")


@dataclass
class Driven:
    """How an implementation is driven, and what its main run gave."""

    hyper: Hyper
    steps: list[Step]
    resumed: Any
    subject: Any
    """One that was made and not stepped."""
    own: dict[str, float]
    """The settings that could not be passed, and what they seem to be."""
    guessed: set[str]
    """Those of them that are 0 for want of anything better."""
    guesses: dict[str, float]
    """What else had to be passed, and what was passed for want of anything better."""
    outcomes: dict[str, str]
    findings: list[Finding] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)
    """Further ways to call it, which were not tried to the end."""
    whatever: set[str] = field(default_factory=set)
    """Codes that are found whatever is guessed."""

    def may_come_from_a_guess(self, code: str) -> bool:
        """Whether a finding on the step was made with a guess, and not with others."""
        on_the_step = code.split(".")[0] in STEP
        return bool(self.guesses) and on_the_step and code not in self.whatever

    @property
    def unread(self) -> set[str]:
        """The settings that could neither be passed nor read off."""
        return {s for s in self.subject.missing if s not in self.own} | self.guessed

    def not_passed(self, settings: Collection[str]) -> str:
        """Those of the settings that could not be passed, in words."""
        missing = tuple(s for s in self.subject.missing if s in settings)
        return not_passed(self.subject, missing, self.own, self.guessed)


class Driving:
    """Finds out how to drive what a maker makes, and drives it."""

    def __init__(
        self,
        maker: Maker,
        problem: Problem,
        hyper: Hyper,
        told: Told,
        afresh: Callable[[], None],
    ) -> None:
        self.maker, self.problem, self.hyper = maker, problem, hyper
        self.told, self.afresh = told, afresh
        self.outcomes: dict[str, str] = {}
        self.findings: list[Finding] = []
        self.errors: dict[Any, BrokenError] = {}
        self.raised: dict[Any, Exception] = {}
        """What orders of calls raised that were only tried."""
        self.rsam = maker.algorithm == "rsam"

    def carry_out(self) -> Driven:
        try:
            return self._carried_out()
        except BrokenError as error:
            of_arrays = self.maker.form in ("optimizer", "loop", "lightning")
            if not of_arrays or not is_numpy_alone(self.maker.subject):
                raise
            raise type(error)(for_arrays(str(error))) from error

    def _carried_out(self) -> Driven:
        ways, trials = self._ways()
        if not trials and self._runs_in_float32(ways):
            ways, trials = self._ways()
        if not trials:
            raise self._failure()
        if self._goes_on(trials):
            ways, trials = self._ways()
        self.trials = trials
        failed: dict[Any, BrokenError] = {}
        for way in sorted(trials, key=lambda way: self._rank(way, ways, trials)):
            self.maker.way, self.maker.found = way, None
            try:
                driven = self._main_run()
            except MemoryError:
                raise
            except Exception as error:
                failed[key_of(way)] = self.told(error)
                continue
            self._tell_ways(way, trials)
            driven.others = [w for w in trials if w is not way]
            return driven
        first = next(iter(failed.values()))
        raise first

    # Whether its runs are independent

    def _goes_on(self, trials: dict[Any, list[Step]]) -> bool:
        """Whether a run goes on with what another one left outside of what a function returns.

        From then on each has its own.
        """
        outside = self.maker.outside
        if outside is None or outside.matters or not outside.slots:
            return False
        key, first = next(iter(trials.items()))
        again: dict[Any, list[Step]] = {}
        self._try(key, again)
        if again and all(_alike(a, b) for a, b in zip(first, again[key_of(key)])):
            return False
        outside.found_to_matter()
        return True

    # Which way

    def _ways(self) -> tuple[list[Any], dict[Any, list[Step]]]:
        """The ways that there are, and two steps of each that works."""
        trial = self._trial()
        if self.maker.form != "optimizer":
            return self._first_of(getattr(trial, "ways", [None]))
        from rsam_ref.conformance.observe import ways as of

        ways = list(of.halves(trial.optimizer, self.rsam))
        usual = [way for way in ways if way.name == "two-step"]
        closures = of.closures(trial.optimizer)
        if (not ways and not closures) or self.rsam or not usual:
            ways += self._orders(of.orders(trial.optimizer, self.rsam), usual, bool(closures))
        if not ways and not closures:
            ways = self._orders(of.by_turns(trial.optimizer), [], True)
        if not ways and not closures and not callable(getattr(trial.optimizer, "step", None)):
            first = next(iter(self.raised.items()), None)
            said = f" ({first[0]}: {self.told(first[1])})" if first else ""
            raise BrokenError(no_way(trial.optimizer, said))
        if not ways and not closures:
            closures = [of.CLOSURE, of.FORWARD, of.BACKWARD_FIRST]
        trials: dict[Any, list[Step]] = {}
        for way in ways:
            self._try(way, trials)
        for way in closures:
            if way.name == "closure":
                way = self._closure(way, trials)
            elif any(self._is_full(t) for w, t in trials.items() if w.name in CLOSURES):
                continue  # one of the ways with a closure makes two gradients
            else:
                self._try(way, trials)
            ways.append(way)
        return ways, trials

    def _trial(self) -> Any:
        """A subject to ask for its ways; of arrays in the first layout with which it is made."""
        self.maker.way = None
        if self.maker.form != "function":
            return self.maker(self.problem, self.hyper)
        failed: list[BrokenError] = []
        layouts = (LISTS, VECTOR, DICT)
        for base, layout in itertools.product((False, True), layouts):
            try:
                way = Way(layout, other_base=base)
                return self.maker(self.problem, self.hyper, way=way)
            except BrokenError as error:
                failed.append(error)
        raise failed[0]

    def _first_of(self, ways: list[Any]) -> tuple[list[Any], dict[Any, list[Step]]]:
        """The first that works; one that takes two gradients, if there is one."""
        trials: dict[Any, list[Step]] = {}
        poor: Any = None
        for way in ways:
            found: dict[Any, list[Step]] = {}
            subject = self._try(way, found)
            suits = getattr(subject, "suits", None)
            if not found:
                continue
            steps = found[key_of(way)]
            if isinstance(way, Way):
                way = subject.way  # which knows by now what a step gives back
                found = {way: steps}
            full = suits(steps) if suits is not None else self._is_full(steps)
            if full or way is None:
                return [key_of(way)], found
            last_resort = getattr(way, "layout", None) is None and suits is not None
            poor = (way, found) if last_resort else poor or (way, found)
        if poor is not None:
            return [key_of(poor[0])], poor[1]
        return [key_of(way) for way in ways], trials

    def _try(self, way: Any, trials: dict[Any, list[Step]]) -> Any:
        """Two steps in a way, and the subject that made them; None where it raises."""
        self.maker.way, self.maker.found = way, None
        key = key_of(way)
        try:
            self.afresh()
            subject = self.maker(self.problem, self.hyper)
            trials[key] = watch(subject, [self.hyper] * 2)
        except MemoryError:
            raise
        except Exception as error:
            self.errors[key] = self.told(error)
            return None
        finally:
            self._keep_apart()
        return subject

    def _keep_apart(self) -> None:
        """Where a run has left something outside by ids, no other one meets it."""
        outside = self.maker.outside
        if outside is not None and not outside.matters and outside.hold_ids:
            outside.found_to_matter()

    def _closure(self, way: Any, trials: dict[Any, list[Step]]) -> Any:
        """step(closure) as torch's users call it; where that raises, with gradients on."""
        self._try(way, trials)
        error = self.errors.get(way)
        if error is None or not any(words in str(error) for words in WITHOUT_GRAD):
            return way
        able = type(way)(way.name, way.calls, with_grad=True)
        self._try(able, trials)
        return able if able in trials else way

    def _orders(self, orders: Any, usual: list[Any], has_closure: bool) -> list[Any]:
        """Of the orders that the names of its methods allow, the one that brings the weights back.

        Where it has the usual halves, only one with a draw before them is asked for. Where it has a
        step(closure), its methods may be parts of that, and no order of theirs need be a way.
        """
        from rsam_ref.conformance.observe.trying import best_order

        small = self.hyper.but(lr=1e-6)

        def run(way: Any) -> Step:
            self.afresh()
            self.maker.way, self.maker.found = way, None
            try:
                return watch(self.maker(self.problem, small), [small])[0]
            finally:
                self._keep_apart()

        candidates = [way for way in orders if not usual or way.name == "three-step"]
        best = best_order(candidates, run, self.rsam, self.raised, must_return=has_closure)
        return [] if best is None else [best]

    def _is_full(self, steps: list[Step]) -> bool:
        """Whether a step takes gradients at two places."""
        return any(len({e.at.tobytes() for e in step.evaluations}) > 1 for step in steps)

    def _is_drawn(self, steps: list[Step]) -> bool:
        return any(s.evaluations and (s.evaluations[0].at != s.before).any() for s in steps)

    def _rank(self, way: Any, ways: list[Any], trials: dict[Any, list[Step]]) -> tuple[Any, ...]:
        """R-SAM draws before its first gradient, for which two halves have no call."""
        steps = trials[way]
        if not hasattr(way, "name"):
            return (ways.index(way),)
        order = ("closure", "forward-closure", "three-step", "two-step", "backward-first")
        place = order.index(way.name) if self.rsam else ways.index(way)
        undrawn = self.rsam and way.name in ("two-step", "three-step") and not self._is_drawn(steps)
        return (not self._is_full(steps), undrawn, place)

    def _runs_in_float32(self, ways: list[Any]) -> bool:
        """Whether it runs in float32, since it does not in float64."""
        if not any(isinstance(error, RaisedError) for error in self.errors.values()):
            return False
        before, self.errors = self.errors, {}
        self.maker.single = True
        _, trials = self._ways()
        if not trials:
            self.maker.single, self.errors = False, before
            return False
        told = next(iter(before.values()))
        self.outcomes["float64"] = f"not done: it runs in float32 only ({told})"
        self.errors = {}
        return True

    def _failure(self) -> BrokenError:
        told, *_ = self.errors.values()
        known = what_to_write(self.maker.subject, self.maker.form, str(told))
        if known and isinstance(told, RaisedError):
            return RaisedError(f"{told}{known}")
        if self.maker.form == "function" and isinstance(told, RaisedError):
            other = self.errors.get(Way(VECTOR), told)
            also = (
                [f"; given {VECTOR} instead of {LISTS}: {other}"] if str(other) != str(told) else []
            )
            return type(told)("".join([str(told), *also]))
        if self.maker.form == "loop":
            from rsam_ref.conformance.observe.own_optimizer import hint_for

            return type(told)(f"{told}{hint_for(str(told), self.errors)}")
        if self.maker.form == "optimizer" and all(words in str(told) for words in WRONG_CALL):
            return type(told)(f"{told}; {CALL_IT}")
        halves = all(getattr(way, "name", "") == "two-step" for way in self.errors)
        hint = NO_DRAW if self.rsam and halves else ""
        return type(told)(f"{told}{hint}")

    def _tell_ways(self, way: Any, trials: dict[Any, list[Step]]) -> None:
        """Say which ways do not work, and what is special about the one that is used."""
        if getattr(way, "layout", "") == "last":
            self.findings.append(Finding("noise.last-axis", {"filters are along": "the last axis"}))
        if not hasattr(way, "name"):
            return
        closure = next((w for w in self.errors if w.name == "closure" and not w.with_grad), None)
        for other, error in self.errors.items():
            usual = other.name in ("two-step", "closure") and not other.with_grad
            if usual and not any(w.name == other.name for w in trials):
                self.outcomes[other.words] = f"not done: {error}"
        if way.with_grad:
            self.findings.append(
                Finding("contract.closure-without-gradients", {"error": str(self.errors[closure])})
            )
        raised = closure is not None and not any(w.name == "closure" for w in trials)
        evidence: dict[str, Any] = {"gradients without it": 1}
        if raised:
            evidence = {"without it": str(self.errors[closure])}
        if way.name == "backward-first" or (raised and self._works_after_backward(trials)):
            self.findings.append(Finding("contract.backward-first", evidence))

    def _works_after_backward(self, trials: dict[Any, list[Step]]) -> bool:
        """Whether step(closure) takes two gradients after a backward pass, and not otherwise."""
        full = {w.name for w, steps in trials.items() if self._is_full(steps)}
        return "backward-first" in full and not full & set(CLOSURES)

    # With which settings

    def _main_run(self) -> Driven:
        maker, hyper = self.maker, self.hyper
        if maker.form == "optimizer":
            maker.found = self._found()
        self.afresh()
        subject = maker(self.problem, hyper)
        if maker.form == "lightning" or getattr(subject, "own", None) is not None:
            maker.fixed = self._fixed_once_made(subject)
            self.afresh()
            subject = maker(self.problem, hyper)
        missing = tuple(s for s in subject.missing if s in maker.asked)
        own = self._own(subject, hyper, missing)
        hyper = hyper.but(**own)
        self._tell_settings(subject, missing, own)
        self.afresh()
        subject = maker(self.problem, hyper)
        plan = plan_of(subject, hyper)
        steps, resumed = run(maker, self.problem, plan)
        guesses = getattr(subject, "guesses", {})
        return Driven(
            hyper, steps, resumed, subject, own, self.guessed, guesses, self.outcomes, self.findings
        )

    def tell_guesses(self, driven: Driven) -> None:
        """Tells what was guessed, and that it was."""
        if not driven.guesses:
            return
        told = f"{in_words(driven.guesses)} was guessed, as {driven.subject.by} needs it"
        before = self.outcomes.get("settings", "")
        told = f"{before}; {told}" if before else f"not done: {told}"
        self.outcomes["settings"] = f"{told}; {PASS_IT}"

    def try_other_guesses(self, driven: Driven) -> None:
        """Tells what other guesses give, and keeps the codes that are found with all of them."""
        usual, plan = self.maker.found, [step.hyper for step in driven.steps]
        found: list[set[str]] = []
        for others in other_guesses(driven.guesses):
            self.maker.found = replace(usual or Found(), numbers=others)
            try:
                self.afresh()
                steps = watch(self.maker(self.problem, plan[0]), plan)
                findings = diagnose(self.problem, steps, self.maker.algorithm).findings
            except MemoryError:
                raise
            except Exception:  # a value that it refuses tells nothing
                continue
            finally:
                self.maker.found = usual
            found.append({f.code for f in findings})
            wrong = ", ".join(f.code for f in findings if f.diverges) or "nothing on the step"
            self.outcomes["settings"] += f"; with {in_words(others)} is found: {wrong}"
        driven.whatever = set.intersection(*found) if found else set()

    def _found(self) -> Found:
        from rsam_ref.conformance.observe.trying import Trying

        maker, way = self.maker, self.maker.way

        def make(hyper: Hyper, found: Found) -> Any:
            return maker(self.problem, hyper, way=way, found=found)

        return Trying(make, self.hyper, maker.asked, self.afresh).find()

    def _fixed_once_made(self, subject: Any) -> tuple[str, ...]:
        """The settings that a step follows where its module or optimizer is made with them, and not
        where they are changed afterwards: that keeps them out of reach.
        """

        def run(first: Hyper, second: Hyper) -> list[Step]:
            self.afresh()
            return watch(self.maker(self.problem, first), [first, second])

        hyper = self.hyper
        usual = run(hyper, hyper)
        if not all(map(_alike, usual, run(hyper, hyper))):
            return ()
        fixed = []
        for setting in CHANGED:
            if setting not in self.maker.asked or not subject.settable(setting):
                continue
            other = hyper.but(**{setting: 0.7 * getattr(hyper, setting)})
            if _alike(run(hyper, other)[1], usual[1]) and not _alike(
                run(other, other)[0], usual[0]
            ):
                fixed.append(setting)
        return tuple(fixed)

    def _own(self, subject: Any, hyper: Hyper, missing: tuple[str, ...]) -> dict[str, float]:
        """What the settings are that could not be passed: what its groups say, or what is seen."""
        self.guessed: set[str] = set()
        trial = self.trials.get(key_of(self.maker.way), [])
        if not self.rsam and self._is_drawn(trial):  # it is another algorithm, and has its own
            missing = (*missing, "sigma", "lam")
        if not missing:
            return {}
        held = getattr(subject, "held", lambda setting: None)
        own: dict[str, float] = {
            s: v for s in ("momentum", "weight_decay") if (v := held(s)) is not None
        }
        own = {s: v for s, v in own.items() if s in missing}
        left = [s for s in missing if s not in own]
        if left:
            self.afresh()
            try:
                steps = watch(self.maker(self.problem, hyper), [hyper] * 3)
                own |= own_values(self.problem, steps, self.maker.algorithm, left)
            except MemoryError:
                raise
            except Exception:  # what is wrong shows, and is told, in the main run
                pass
        for setting in ("momentum", "weight_decay"):
            if setting in missing and setting not in own:
                own[setting] = 0.0
                self.guessed.add(setting)
        return own

    def _tell_settings(self, subject: Any, missing: tuple[str, ...], own: dict[str, float]) -> None:
        told = not_passed(subject, missing, own, self.guessed)
        if getattr(subject, "makes_base_step", False):
            self.outcomes["base step"] = (
                f"not done: {subject.by} gives back a gradient; the check steps with it, by SGD"
            )
        if told:
            self.outcomes["settings"] = f"not done: {told}"
        found = self.maker.found
        if found is not None and found.renamed:
            words = ", ".join(f"{name} is {setting}" for name, setting in found.renamed.items())
            self.outcomes["settings by trying"] = f"passed: {words}"

    # In the other ways

    def others(self, driven: Driven, main: Diagnosis) -> list[Finding]:
        """What the other ways to call it give, where they give something else."""
        findings: list[Finding] = []
        chosen = self.maker.way
        if not hasattr(chosen, "name") or any(f.diverges for f in main.findings):
            return []
        found = self.maker.found
        for way in driven.others:
            undrawn = self.rsam and way.name == "two-step"
            if undrawn or way.name in ("backward-first", "forward-closure"):
                continue
            codes, error = self._looks_like(way, driven, found)
            if (
                error is not None
                and way.name == "closure"
                and self._is_right_after_backward(driven, found)
            ):
                findings.append(Finding("contract.backward-first", {"without it": str(error)}))
            elif error is not None:
                self.outcomes[way.words] = f"not done: {error}"
            elif not codes:
                self.outcomes[way.words] = "passed"
            elif way.name == "closure" and self._is_right_after_backward(driven, found):
                evidence = {"without it": f"{codes[0]}, and silently"}
                findings.append(Finding("contract.backward-first", evidence))
            else:
                evidence = {"driven as": way.words, "looks like": ", ".join(codes)}
                findings.append(Finding("contract.other-way", evidence))
        self.maker.way, self.maker.found = chosen, found
        return findings

    def _looks_like(
        self, way: Any, driven: Driven, found: Found | None
    ) -> tuple[list[str], BrokenError | None]:
        """The divergences of another way, or why it cannot be told."""
        self.maker.way, self.maker.found = way, found
        try:
            self.afresh()
            plan = [step.hyper for step in driven.steps]
            steps = watch(self.maker(self.problem, driven.hyper), plan)
            findings = diagnose(self.problem, steps, self.maker.algorithm).findings
        except MemoryError:
            raise
        except Exception as error:
            return [], self.told(error)
        return [f.code for f in findings if f.diverges], None

    def _is_right_after_backward(self, driven: Driven, found: Found | None) -> bool:
        from rsam_ref.conformance.observe.ways import BACKWARD_FIRST

        codes, error = self._looks_like(BACKWARD_FIRST, driven, found)
        return error is None and not codes


CLOSURES = ("closure", "forward-closure")

WRONG_CALL = ("raised TypeError", "positional argument")
CALL_IT = (
    "it was called as an optimizer is: halves with a backward pass before each, or step(closure); "
    "if it is called otherwise, write train_step(model, optimizer, loss_fn, batch, hyper) that "
    "makes it once, keeps it (model.trainer = ...) and calls it as it is meant"
)

PASS_IT = "give a function make(params, hyper) that passes what it should be"


def no_way(optimizer: Any, said: str) -> str:
    """What is told where no order of calls makes a step."""
    own = [
        name
        for name in dir(optimizer)
        if name[0] != "_" and callable(getattr(type(optimizer), name, None))
    ]
    if not own or type(optimizer).__module__ == "builtins":
        return (
            f"it gave {optimizer!r:.60}, which is nothing that steps; give a function "
            "make(params, hyper) that returns an optimizer, or "
            "train_step(model, optimizer, loss_fn, batch, hyper)"
        )
    return (
        f"no order of calling the methods of {type(optimizer).__name__} ({', '.join(own)}), with a "
        f"backward pass before each, goes up and comes back to the weights{said}; write "
        "train_step(model, optimizer, loss_fn, batch, hyper) that calls them as they are meant"
    )


def for_arrays(said: str) -> str:
    """What is told of a file that knows no framework but NumPy: what else to give is for arrays."""
    said = said.replace(", with a backward pass before each,", "")
    said = re.split(r"; (?:give a function make\(|write train_step\()", said)[0]
    return f"{said}; {OF_ARRAYS}"


OF_ARRAYS = (
    "its file names NumPy alone: write train_step(weights, loss_and_grad, state, hyper), which "
    "returns the new weights and the state"
)


def _alike(one: Step, other: Step) -> bool:
    """Whether two steps evaluated and ended at the same places."""
    places = [
        [*(e.at.tobytes() for e in step.evaluations), step.after.tobytes()] for step in (one, other)
    ]
    return places[0] == places[1]


DRIVEN = "backward, first_step, backward, second_step"
NO_DRAW = (
    f"; it was driven as {DRIVEN}: R-SAM's draw comes before the first backward, so give the class "
    "a step(closure) that draws, takes both gradients and steps"
)


def key_of(way: Any) -> Any:
    """Something that a dict can hold, for a way that may be a dict."""
    return Frozen(way) if isinstance(way, dict) else way


class Frozen(dict[str, str]):
    """A dict that stays as it is."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


def plan_of(subject: Any, hyper: Hyper) -> list[Hyper]:
    """The main run's settings: those that cannot be changed from outside stay as they are."""
    asked = getattr(subject, "asked", SETTINGS)
    fixed = [name for name in CHANGED if name not in asked or not subject.settable(name)]
    return [h.but(**{name: getattr(hyper, name) for name in fixed}) for h in schedule(hyper)]


def run(maker: Maker, problem: Problem, plan: list[Hyper]) -> tuple[list[Step], Any]:
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


def not_passed(
    subject: Any, settings: tuple[str, ...], own: dict[str, float], guessed: set[str]
) -> str:
    """Settings that could not be passed, in words, and what they seem to be."""
    held = getattr(subject, "held", lambda setting: None)

    def said(setting: str) -> str:
        if setting not in own:
            return setting
        kind = "taken to be" if setting in guessed or held(setting) is not None else "it looks like"
        return f"{setting} ({kind} {own[setting]:g})"

    if not settings:
        return ""
    *others, last = map(said, settings)
    names = f"{', '.join(others)} and {last}" if others else last
    mend = {
        "optimizer": "give a function make(params, hyper) that passes what hyper holds",
        "optax": "give a function make(hyper) that passes what hyper holds",
    }.get(subject.form, "take hyper, or the setting by its name")
    return f"{names} could not be passed to {subject.by}, which may use its own; {mend}"
