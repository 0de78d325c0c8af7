"""The function form: what any framework can meet, with lists of NumPy arrays.

    def train_step(weights, loss_and_grad, state, hyper):
        ...
        return weights, state

``loss_and_grad(weights)`` gives the loss and the gradients on this step's mini-batch, as often as
it is asked. ``state`` is an empty dict at first, and whatever was returned from then on. ``hyper``
holds this step's lr, momentum, weight_decay, rho, sigma, lam and eta.

The settings may be taken by name, and what has no state returns the weights alone:

    def step(params, grads_fn, *, lr, rho): ...

A function that cannot do with a list may mean the weights as one flat vector (P,), and gets that.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.arguments import (
    Assignment,
    asked_alone,
    called,
    config_of,
    is_required,
    parameters_of,
)
from rsam_ref.conformance.observe.names import (
    SETTINGS,
    gives_gradients_alone,
    is_called,
    setting_of,
)
from rsam_ref.conformance.observe.observer import (
    MOST_EVALUATIONS,
    BrokenError,
    Evaluation,
    NotSavedError,
    Step,
)
from rsam_ref.conformance.observe.outside import Outside
from rsam_ref.conformance.observe.problem import Hyper, Problem, Weights

TrainStep = Callable[..., Any]

ORDER = ("weights", "gradient", "state", "hyper")
"""A function's arguments where their names do not tell."""


def assignment_of(train_step: TrainStep) -> Assignment:
    """What each parameter of a function is for: one of `ORDER`, or a setting."""
    try:
        taken = parameters_of(train_step)
    except (TypeError, ValueError):
        return {}
    required = [name for name, p in taken.items() if is_required(p)]
    found: Assignment = {}
    for name, parameter in taken.items():
        role = _role(name, found)
        if role is not None and (
            is_required(parameter) or setting_of(name) or role in ("hyper", "state")
        ):
            found[name] = role
    needed = {"weights", "gradient"} <= set(found.values())
    if needed and all(name in found for name in required):
        return found
    by_place = dict(zip(required, ORDER))
    return by_place | {n: r for n, r in found.items() if n not in by_place and setting_of(n)}


def _role(name: str, found: Assignment) -> str | None:
    kinds = {
        "weights": names.WEIGHTS,
        "gradient": names.GRADIENTS,
        "state": names.STATES,
        "hyper": names.CONFIGS,
    }
    if setting_of(name):
        return setting_of(name)
    known = set(found.values())
    return next((r for r, all_ in kinds.items() if is_called(name, all_) and r not in known), None)


LISTS, VECTOR = "a list of arrays", "one flat vector"


class FunctionSubject:
    """A `train_step` function, driven. It is given copies, and may do with them what it likes."""

    form = "function"
    ways = (LISTS, VECTOR)
    """What weights and gradients may be to it."""

    def __init__(
        self,
        train_step: TrainStep,
        problem: Problem,
        hyper: Hyper,
        *,
        dtype: str = "float64",
        loss_and_grad: Callable[[np.ndarray, int], tuple[float, np.ndarray]] | None = None,
        asked: Collection[str] = SETTINGS,
        outside: Outside | None = None,
        way: str | None = None,
    ) -> None:
        self.train_step = train_step
        self.as_vector = way == VECTOR
        self.outside = outside or Outside(train_step)
        self.kept = self.outside.fresh()
        self.problem = problem
        self.dtype = np.dtype(dtype)
        self.loss_and_grad = loss_and_grad or problem.loss_and_grad
        self.parts = self._split(problem.start)
        self.state: Any = {}
        self.asked = asked
        self.assignment = asked_alone(train_step, assignment_of(train_step), asked)
        roles = set(self.assignment.values())
        self.takes_all = "hyper" in roles or not roles
        self.keeps_state = "state" in roles or not roles
        self.takes_nothing = roles == {"weights", "gradient"}
        by_name = next((n for n, r in self.assignment.items() if r == "gradient"), "")
        self.gradients_alone = gives_gradients_alone(by_name)

    @property
    def by(self) -> str:
        return getattr(self.train_step, "__name__", "train_step")

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that it does not take."""
        given = self.assignment.values()
        return () if self.takes_all else tuple(s for s in SETTINGS if s not in given)

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed between steps."""
        return setting not in self.missing

    def weights(self) -> np.ndarray:
        return self.problem.flat(self.parts)

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        def loss_and_grad(weights: Any, *_: Any) -> Any:
            at = self._checked(weights, f"loss_and_grad was called in step {number + 1} with")
            if len(seen.evaluations) >= MOST_EVALUATIONS:
                raise BrokenError(
                    f"step {number + 1} called loss_and_grad more than {MOST_EVALUATIONS} times"
                )
            flat = self.problem.flat(at)
            seen.evaluations.append(Evaluation(flat, number))
            loss, gradient = self.loss_and_grad(flat, number)
            found = self._given(self._split(gradient))
            return found if self.gradients_alone else (loss, found)

        given = self._given([part.copy() for part in self.parts])
        with self.outside.holding(self.kept):
            result = self._call(given, loss_and_grad, hyper)
        if not seen.evaluations and self.takes_nothing:
            raise BrokenError(
                f"step {number + 1} never asked for a gradient; {self.by} takes two arguments, and "
                "no state, hyper or setting: is it a train_step?"
            )
        if not self.keeps_state and not _is_pair(result, len(self.parts)):
            result = result, self.state
        if not isinstance(result, tuple) or len(result) != 2:
            what = type(result).__name__
            if isinstance(result, tuple):
                what = f"a tuple of {len(result)}"
            raise BrokenError(f"train_step must return (weights, state); it returned {what}")
        self.parts = self._checked(result[0], f"train_step returned from step {number + 1}")
        self.parts = [part.copy() for part in self.parts]
        self.state = result[1]

    def _split(self, vector: np.ndarray) -> Weights:
        """The parts of a vector (P,) in this precision; it itself is the only one as a vector."""
        parts = [vector] if self.as_vector else self.problem.parts(vector)
        return [part.astype(self.dtype) for part in parts]

    def _given(self, parts: Weights) -> Any:
        """The parts as the function gets them."""
        return parts[0] if self.as_vector else parts

    def _call(self, weights: Any, loss_and_grad: Any, hyper: Hyper) -> Any:
        if not self.assignment:
            return self.train_step(weights, loss_and_grad, self.state, hyper)
        if len(self.assignment) < 2 or len(set(self.assignment.values()) & set(ORDER)) < 2:
            return self.train_step(weights, loss_and_grad, self.state, hyper)
        values: dict[str, Any] = {
            "weights": weights,
            "gradient": loss_and_grad,
            "state": self.state,
            **vars(hyper),
        }
        taken = inspect.signature(self.train_step).parameters
        for name, role in self.assignment.items():
            if role == "hyper":
                values["hyper"] = config_of(taken[name], self.train_step, hyper)
        return called(self.train_step, self.assignment, values)

    def resumed(self, hyper: Hyper) -> FunctionSubject:
        """Another with these weights and a copy of the state: what is kept elsewhere is not."""
        other = copy.copy(self)
        other.kept = self.outside.fresh()
        other.parts = [part.copy() for part in self.parts]
        try:
            other.state = copy.deepcopy(self.state)
        except Exception as error:
            raise NotSavedError(
                f"the state that train_step returned cannot be copied: {error}"
            ) from None
        return other

    def _checked(self, weights: Any, doing: str) -> Weights:
        shapes, names = self.problem.shapes, self.problem.names
        if self.as_vector:
            shapes, names, weights = [self.parts[0].shape], ["the vector"], [weights]
        try:
            parts = [np.asarray(part) for part in weights]
        except Exception as error:
            raise BrokenError(
                f"{doing} {type(weights).__name__} for weights; {len(shapes)} arrays are expected "
                f"({error})"
            ) from None
        if len(parts) != len(shapes):
            raise BrokenError(f"{doing} {len(parts)} weights (arrays); {len(shapes)} are expected")
        for part, shape, name in zip(parts, shapes, names):
            if part.shape != tuple(shape):
                raise BrokenError(
                    f"{doing} weights of shape {part.shape} for {name}, which is {tuple(shape)}"
                )
            if part.dtype.kind != "f":
                raise BrokenError(f"{doing} weights of type {part.dtype} for {name}")
        return parts


def _is_pair(result: Any, count: int) -> bool:
    """Whether this is (weights, state), and not the weights alone."""
    return (
        isinstance(result, tuple)
        and len(result) == 2
        and (count != 2 or isinstance(result[0], list | tuple))
    )
