"""The function form: what any framework can meet, with lists of NumPy arrays.

    def train_step(weights, loss_and_grad, state, hyper):
        ...
        return weights, state

``loss_and_grad(weights)`` gives the loss and the gradients on this step's mini-batch, as often as
it is asked. ``state`` is an empty dict at first, and whatever was returned from then on. ``hyper``
holds this step's lr, momentum, weight_decay, rho, sigma, lam and eta.

The settings may be taken by name, and what has no state returns the weights alone:

    def step(params, grads_fn, *, lr, rho): ...

A function that cannot do with a list may mean the weights as one flat vector (P,) or as a dict,
and gets that. It may change them in place; it may return a gradient, with which the check then
makes the base step. A class with such a step is made anew for every run (see array_maker.py).
"""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rsam_backends import Stream
from rsam_ref.algorithms.noise import filter_noise
from rsam_ref.conformance.observe.arguments import (
    asked_alone,
    called,
    config_of,
    is_required,
    parameters_of,
)
from rsam_ref.conformance.observe.array_layouts import DICT, LISTS, VECTOR, Layout
from rsam_ref.conformance.observe.array_maker import ArrayMaker
from rsam_ref.conformance.observe.array_roles import (
    MEMORIES,
    ORDER,
    assignments_of,
)
from rsam_ref.conformance.observe.array_settings import (
    find_named_places,
    find_places,
    write_all,
)
from rsam_ref.conformance.observe.array_ways import Oracle, Way
from rsam_ref.conformance.observe.given_back import (
    GivenBack,
    Outcome,
    Path,
    found_out,
    inside,
    items_in,
    shares,
)
from rsam_ref.conformance.observe.holders import VELOCITIES, Holder, class_held
from rsam_ref.conformance.observe.names import (
    BASE_SETTINGS,
    GRADIENTS,
    SETTINGS,
    STATES,
    gives_gradients_alone,
    is_called,
)
from rsam_ref.conformance.observe.observer import (
    MOST_EVALUATIONS,
    BrokenError,
    Evaluation,
    NotSavedError,
    Step,
    watch,
)
from rsam_ref.conformance.observe.outside import Outside
from rsam_ref.conformance.observe.problem import Hyper, Problem, Weights

TrainStep = Callable[..., Any]
NOTHING = object()
"""No state."""


class FunctionSubject:
    """A step on NumPy arrays, driven. It is given copies, and may do with them what it likes."""

    form = "function"

    def __init__(
        self,
        train_step: TrainStep,
        problem: Problem,
        hyper: Hyper,
        *,
        dtype: str = "float64",
        loss_and_grad: Callable[[np.ndarray, int], tuple[float, np.ndarray]] | None = None,
        asked: Collection[str] = SETTINGS,
        adaptive: bool = False,
        outside: Outside | None = None,
        maker: ArrayMaker | None = None,
        way: Way | None = None,
    ) -> None:
        self.way = way or Way()
        self.outside = outside or Outside(train_step)
        self.kept = self.outside.fresh()
        self.problem, self.hyper = problem, hyper
        self.dtype = np.dtype(dtype)
        self.layout = Layout(self.way.layout, problem, self.dtype)
        self.loss_and_grad = loss_and_grad or problem.loss_and_grad
        self.parts = self.layout.split(problem.start)
        self.state: Any = {}
        self.velocity: Weights | None = None
        self.asked = (*asked, "eta") if adaptive else asked
        self.maker = maker or ArrayMaker(train_step, adaptive=adaptive)
        self.oracle = Oracle(problem.shapes)
        self.stream = Stream("noise", 0)
        self.rng = np.random.default_rng(0)
        self._make(self.hyper)
        roles = set(self.assignment.values())
        unread = not roles and self.maker.kind == "function"
        self.takes_all = "hyper" in roles or unread or self.made.has_all
        self.keeps_state = "state" in roles or unread
        kept = next((n for n, role in self.assignment.items() if role == "state"), "")
        parameter = parameters_of(self.made.step)[kept] if kept else None
        self.may_be_kept = parameter is not None and not is_required(parameter)
        velocity = is_called(kept, VELOCITIES)
        self.may_be_zeros = self.may_be_kept and velocity and not self.way.zeros
        if self.may_be_kept and parameter is not None and not self.way.zeros:
            self.state = copy.deepcopy(parameter.default)
        elif velocity:
            self.state = self.layout.given(self.layout.split(np.zeros_like(problem.start)))
        self.kept_by = kept
        self.holder: Holder | None = None
        if name := next((n for n, role in self.assignment.items() if role == "holder"), ""):
            self._hold(class_held(parameters_of(self.made.step)[name], self.made.step))
        self.first_state = copy.deepcopy(self.state)
        self.takes_nothing = roles == {"weights", "gradient"} and self.maker.kind == "function"

    def _hold(self, made: Any) -> None:
        """One object holds all that the step needs."""
        zeros = self.layout.split(np.zeros_like(self.problem.start))
        values = {"weights": self.given, "velocity": self.layout.given(zeros)}
        self.holder = Holder(made)
        self.state = self.holder.first(values | {"rng": self.rng, "number": 0, "state": {}})

    def _make(self, hyper: Hyper) -> None:
        """The run's own object, if there is one."""
        self.given = self.layout.given([part.copy() for part in self.parts])
        given = {"weights": self.given, "gradient": self.oracle, "shapes": self.problem.shapes}
        other = self.way.other_base
        self.made = self.maker.make(hyper, self.asked, given, other_base=other)
        self.orders = assignments_of(self.made.step, self.asked)
        chosen = self.orders[min(self.way.order, len(self.orders) - 1)]
        self.assignment = asked_alone(self.made.step, chosen, self.asked)
        by_name = next((n for n, r in self.assignment.items() if r == "gradient"), "")
        by_name = by_name or self.made.gradient_name
        self.gradients_alone = gives_gradients_alone(by_name)
        self.name_tells = not by_name or is_called(by_name, GRADIENTS)
        if self.way.alone is not None:
            self.gradients_alone = self.way.alone

    @property
    def ways(self) -> Iterator[Way]:
        """How it may be called: what the names do not tell is tried."""
        alone = (None,) if self.name_tells else (None, not self.gradients_alone)
        bases = (False, True) if self.maker.takes_base(self.asked) else (False,)
        orders = range(len(self.orders))
        for base, order, given in itertools.product(bases, orders, alone):
            for layout in (LISTS, VECTOR, DICT):
                yield Way(layout, order, given, other_base=base)

    @property
    def by(self) -> str:
        return self.maker.by

    @property
    def back(self) -> GivenBack | None:
        return self.way.back

    @property
    def makes_base_step(self) -> bool:
        """Whether the check makes the base step, since a gradient is what is given back."""
        return self.back is not None and self.back.what == "gradient"

    @property
    def takes(self) -> set[str]:
        """The settings that it takes by name, in its step or where it is made."""
        found = {*self.assignment.values(), *self.made.passed}
        if self.maker.kind == "instance":
            found |= {s for s in SETTINGS if self._places_of(s)}
        return found & set(SETTINGS)

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that it does not take."""
        if self.takes_all:
            return ()
        takes = self.takes
        if self.makes_base_step:
            takes |= set(BASE_SETTINGS)
        if "noise" in self.assignment.values():
            takes.add("sigma")
        return tuple(s for s in SETTINGS if s not in takes)

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed between steps."""
        if setting in self.missing:
            return False
        roles = self.assignment.values()
        kept = (self.made.passed or self.made.has_all) and not {setting, "hyper"} & set(roles)
        if self.maker.kind == "instance" or (kept and not self._is_ours(setting)):
            return bool(self._places_of(setting))
        return True

    def _is_ours(self, setting: str) -> bool:
        """Whether only the check makes something of a setting."""
        ours = setting in BASE_SETTINGS and self.makes_base_step and setting not in self.takes
        return ours or (setting == "sigma" and "noise" in self.assignment.values())

    def _places_of(self, setting: str) -> tuple[Any, ...]:
        """Where the run's object keeps a setting; looked for once."""
        found = self.maker.places
        if self.made.instance is None:
            return ()
        if setting not in found:
            found[setting] = ()
            ready = self.maker.kind == "instance"
            find = find_named_places if ready else find_places
            found[setting] = find(self._trial, setting, self.hyper)
        return found[setting]

    def _trial(self, hyper: Hyper, kept: Any, written: float) -> tuple[Any, list[np.ndarray]]:
        other = copy.copy(self)
        other.parts = self.layout.split(self.problem.start)
        other.state, other.velocity = copy.deepcopy(self.first_state), None
        other.kept = self.outside.fresh()
        other.oracle, other.rng = Oracle(self.problem.shapes), np.random.default_rng(0)
        other._make(hyper)
        write_all(other.made.instance, kept, written)
        steps = watch(other, [hyper] * 2)
        seen = [e.at for step in steps for e in step.evaluations] + [s.after for s in steps]
        return other.made.instance, seen

    def weights(self) -> np.ndarray:
        return self.problem.flat(self.parts)

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        gradients: list[np.ndarray] = []
        given = self._given()

        def ask(weights: Any = None) -> Any:
            weights = given if weights is None else weights
            at = self.layout.parts(weights, f"loss_and_grad was called in step {number + 1} with")
            if len(seen.evaluations) >= MOST_EVALUATIONS:
                raise BrokenError(
                    f"step {number + 1} called loss_and_grad more than {MOST_EVALUATIONS} times"
                )
            flat = self.problem.flat(at)
            seen.evaluations.append(Evaluation(flat, number))
            loss, gradient = self.loss_and_grad(flat, number)
            gradients.append(gradient)
            found = self.layout.given(self.layout.split(gradient))
            return found if self.gradients_alone else (loss, found)

        def loss_alone(weights: Any, *_: Any) -> float:
            at = self.layout.parts(weights, f"the loss was asked for in step {number + 1} with")
            return self.loss_and_grad(self.problem.flat(at), number)[0]

        self._write(hyper)
        self.oracle.ask = ask
        values = {"weights": given, "gradient": self.oracle, "loss": loss_alone}
        try:
            with self.outside.holding(self.kept):
                result = self._call(values, hyper, number)
        finally:
            self.oracle.ask = None
        if not seen.evaluations and self.takes_nothing:
            raise BrokenError(
                f"step {number + 1} never asked for a gradient; {self.by} takes two arguments, and "
                "no state, hyper or setting: is it a train_step?"
            )
        self._take(given, result, gradients, hyper, seen)

    def _given(self) -> Any:
        """The weights as this step gets them: those that its object holds, or new copies."""
        if self.made.holds:
            return self.given
        return self.layout.given([part.copy() for part in self.parts])

    def _write(self, hyper: Hyper) -> None:
        """Settings that are kept in the run's object, as they are for this step."""
        if self.made.instance is None:
            return
        for setting, kept in self.maker.places.items():
            write_all(self.made.instance, kept, getattr(hyper, setting))

    def _call(self, values: dict[str, Any], hyper: Hyper, number: int) -> Any:
        weights, oracle = values["weights"], values["gradient"]
        known = set(self.assignment.values()) & {*ORDER, "holder"}
        if len(known) < 2 and self.maker.kind == "function":
            return self.made.step(weights, oracle, self.state, hyper)
        if self.holder is not None:
            self.state = self.holder.with_weights(self.state, weights)
            values["holder"] = self.state
        roles = set(self.assignment.values())
        values |= {"state": self.state, "number": number, "seed": number, "rng": self.rng}
        inputs, targets = self.problem.batch(number)
        values |= {"batch": (inputs, targets), "inputs": inputs, "targets": targets}
        values |= {"shapes": self.problem.shapes, **vars(hyper)}
        if "first" in roles:
            found = oracle(weights)
            values["first"] = found if self.gradients_alone else found[1]
        if "noise" in roles:
            w, stream = self.problem.flat(self.parts), Stream("noise", 0, number)
            drawn = filter_noise(w, self.problem.shapes, sigma=hyper.sigma, stream=stream)
            values["noise"] = self.layout.given(self.layout.split(drawn))
        taken = inspect.signature(self.made.step).parameters
        for name, role in self.assignment.items():
            if role == "hyper":
                values["hyper"] = config_of(taken[name], self.made.step, hyper)
        return called(self.made.step, self.assignment, values)

    def _take(
        self, given: Any, result: Any, gradients: list[np.ndarray], hyper: Hyper, seen: Step
    ) -> None:
        """The new weights, and the state."""
        before, doing = self.weights(), f"{self.by} returned from step {seen.number + 1}"
        if self.holder is not None:
            self.state = self.holder.of(result, self.state)
            held = self.layout.parts(getattr(self.state, self.holder.weights), doing)
            self.parts = [part.copy() for part in held]
            return
        outcome = Outcome(
            self.layout,
            before,
            self.layout.flat(given),
            result,
            gradients,
            [e.at for e in seen.evaluations],
            self.made.instance,
            hyper,
            frozenset(self.takes) if self.maker.kind != "instance" else frozenset(),
            self.keeps_state and not (self.may_be_kept and not is_called(self.kept_by, STATES)),
        )
        back = self.back or found_out(outcome)
        if back is None:
            raise self._nothing(result, doing)
        if self.back is None:
            self.way = replace(self.way, back=back)
        if self.keeps_state:
            before_it, self.state = self.state, self._state_in(outcome, back)
            if self.may_be_zeros and self.state is None and before_it is None:
                self.way = replace(self.way, zeros=True)
            self.may_be_zeros = False
        if back.what != "weights":
            self.parts = self._base_step(given, result, back, hyper, doing)
        elif back.held:
            self.parts = self.layout.parts(getattr(self.made.instance, back.held), doing)
        elif back.path is None:
            self.parts = self.layout.parts(given, f"step {seen.number + 1} left")
        else:
            self.parts = self.layout.parts(self._of(back, result, doing), doing)
        self.parts = [part.copy() for part in self.parts]

    def _of(self, back: GivenBack, result: Any, doing: str) -> Any:
        try:
            return back.of(result)
        except LookupError:
            raise BrokenError(
                f"{doing} {_in_words(result)}, and not what it returned from the first"
            ) from None

    def _nothing(self, result: Any, doing: str) -> BrokenError:
        """Why what came back is neither weights nor a gradient."""
        if self.keeps_state and not (isinstance(result, tuple) and len(result) == 2):
            return BrokenError(
                f"train_step must return (weights, state); it returned {_in_words(result)}"
            )
        if not isinstance(result, np.ndarray | list | tuple | Mapping):
            return BrokenError(
                f"{doing} {_in_words(result)}, and left the weights as they were; return the new "
                "weights, or change what it is given in place"
            )
        weights = result[0] if isinstance(result, tuple) and len(result) == 2 else result
        try:
            self.layout.parts(weights, doing)
        except BrokenError as error:
            return error
        return BrokenError(f"{doing} {_in_words(result)}, in which no weights are found")

    def _state_in(self, seen: Outcome, back: GivenBack) -> Any:
        """The state in what was returned; that which there was where there is none."""
        if is_called(self.kept_by, VELOCITIES):
            velocity = self._velocity_in(seen, back)
            if velocity is not NOTHING:
                return velocity
        found = self._beside_weights(seen.result, back.path)
        return self.state if found is NOTHING else found

    def _velocity_in(self, seen: Outcome, back: GivenBack) -> Any:
        """What is shaped like the weights, wherever it stands: what has the name, else what has the
        last gradient in it and more, the nearest to the weights first.
        """
        path = back.path or ()

        def rank(item: tuple[Any, Any, np.ndarray]) -> tuple[Any, ...]:
            place, _, vector = item
            last = bool(seen.gradients) and np.array_equal(vector, seen.gradients[-1])
            without = abs(shares(seen, vector)[1]) < 0.01
            together = sum(1 for a, b in zip(place, path) if a == b)
            return not self._names_state(str(place[-1])), without, last, -together, len(place)

        found = [
            (place, value, vector)
            for place, value in items_in(seen.result, depth=3)
            if place and (back.path is None or place[: len(path)] != path)
            if (vector := self.layout.flat(value)) is not None
        ]
        return min(found, key=rank)[1] if found else NOTHING

    def _beside_weights(self, result: Any, path: Path | None, *, within: bool = False) -> Any:
        """What stands beside the weights and is no number: in the innermost that holds both, else
        further out. ``within``: whether this is only a part of what was returned.
        """
        if path and len(path) > 1:
            inner = self._beside_weights(inside(result)[path[0]], path[1:], within=True)
            if inner is not NOTHING:
                return inner
        if path is None and not isinstance(result, tuple):
            alike = isinstance(result, type(self.state)) or self._may_be_state(result)
            return result if alike else NOTHING
        if isinstance(result, (tuple, list) if within else tuple) and path != ():
            place = path[0] if path else None
            others = [v for key, v in inside(result).items() if key != place]
            whole = [v for v in others if not isinstance(v, float | np.floating)]
            others = [v for v in whole if self._may_be_state(v)] or (
                [] if self.may_be_kept else whole or ([] if within else others)
            )
            return others[0] if others else NOTHING
        named = [v for key, v in inside(result).items() if self._names_state(str(key))]
        if path and not isinstance(result, list):
            return named[0] if named else NOTHING
        if self.may_be_kept:
            return NOTHING
        raise BrokenError(
            f"train_step must return (weights, state); it returned {_in_words(result)}"
        )

    def _may_be_state(self, value: Any) -> bool:
        """Whether an optional argument may be given this: it is no number and no loss."""
        number = isinstance(value, bool | int | float | np.number | str) or value is None
        number = number or (isinstance(value, np.ndarray) and not value.shape)
        return self.may_be_kept and not number

    def _names_state(self, key: str) -> bool:
        return key == self.kept_by or is_called(key, MEMORIES)

    def _base_step(
        self, given: Any, result: Any, back: GivenBack, hyper: Hyper, doing: str
    ) -> Weights:
        """SGD's step, with the gradient that was returned, from the weights as they were left."""
        start = self.layout.parts(given, doing)
        direction = self.layout.parts(self._of(back, result, doing), doing)
        if back.what == "update":
            return [w + back.sign * d for w, d in zip(start, direction)]
        decay = 0.0 if "weight_decay" in back.own else hyper.weight_decay
        momentum = 0.0 if "momentum" in back.own else hyper.momentum
        direction = [d + decay * w for w, d in zip(start, direction)]
        if self.velocity is not None:
            direction = [momentum * v + d for v, d in zip(self.velocity, direction)]
        self.velocity = direction
        return [(w - hyper.lr * v).astype(w.dtype) for w, v in zip(start, direction)]

    def resumed(self, hyper: Hyper) -> FunctionSubject:
        """Another with these weights and a copy of the state: what is kept elsewhere is not."""
        other = copy.copy(self)
        other.kept = self.outside.fresh()
        other.parts = [part.copy() for part in self.parts]
        try:
            other.state = copy.deepcopy(self.state)
            other.rng = copy.deepcopy(self.rng)
        except Exception as error:
            raise NotSavedError(
                f"the state that train_step returned cannot be copied: {error}"
            ) from None
        if self.maker.kind == "factory" and self.made.instance is None and not self.keeps_state:
            raise NotSavedError("nothing of it can be saved: what it keeps is in a closure")
        if self.maker.kind != "function":
            self._save_into(other, hyper)
        return other

    def _save_into(self, other: FunctionSubject, hyper: Hyper) -> None:
        """Its object's state, by state_dict and load_state_dict, or as a copy of all of it."""
        made, other.oracle = self.made, Oracle(self.problem.shapes)
        if made.instance is None:
            other._make(hyper)
            return
        for save, load in (("state_dict", "load_state_dict"), ("get_state", "set_state")):
            if callable(getattr(made.instance, save, None)) and hasattr(made.instance, load):
                saved = copy.deepcopy(getattr(made.instance, save)())
                other._make(hyper)
                getattr(other.made.instance, load)(saved)
                return
        memo = {id(self.oracle): other.oracle}
        try:
            instance, other.given = copy.deepcopy((made.instance, self.given), memo)
        except Exception as error:
            raise NotSavedError(f"{self.by} cannot be copied: {error}") from None
        step = getattr(instance, made.step.__name__)
        other.made = replace(made, step=step, instance=instance)


def _in_words(result: Any) -> str:
    """A type's name; of a tuple how long it is."""
    if isinstance(result, tuple) and not hasattr(result, "_fields"):
        return f"a tuple of {len(result)}"
    return type(result).__name__


__all__ = ["DICT", "LISTS", "VECTOR", "FunctionSubject", "Way"]
