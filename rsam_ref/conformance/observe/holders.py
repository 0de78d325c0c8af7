"""One object that holds all that a step needs: weights, velocity, number, generator.

def train_step(state: MyState, loss_and_grad, hyper):
    ...
    return MyState(weights, velocity, state.step + 1)
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.frameworks import names_of, plain_of
from rsam_ref.conformance.observe.observer import BrokenError

VELOCITIES = [
    "v",
    "velocity",
    "vel",
    "vels",
    "velocities",
    "buf",
    "bufs",
    "buffer",
    "momentum_buffer",
    "momentum_buffers",
    "momentum_buf",
    "mom_buf",
    "v_prev",
]
"""A state that is an array for each of the weights, 0 at first."""
COUNTS = ("step", "count", "steps", "n_steps", "t", "iteration", "n_iter")
ROLES = {
    "number": COUNTS,
    "weights": [*names.WEIGHTS, "x", "weight"],
    "velocity": VELOCITIES,
    "rng": names.KEYS,
    "state": names.STATES,
}


def fields_of(made: Any) -> list[str]:
    """The names that a dataclass or NamedTuple is made with."""
    if dataclasses.is_dataclass(made):
        return [f.name for f in dataclasses.fields(made) if f.init]
    return list(getattr(made, "_fields", ()))


def role_of_field(name: str) -> str | None:
    """What a field is for on NumPy arrays: one of `ROLES`."""
    return next((role for role, known in ROLES.items() if names.is_called(name, known)), None)


def class_held(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """The class with weights that a parameter is annotated with, or where its name says that it
    holds all, the only one beside the function whose weights the function names. None: no such.
    """
    told, beside = parameter.annotation, names_of(function)
    if isinstance(told, str):
        told = beside.get(told.strip("'\""))
    if told is not parameter.empty and inspect.isclass(told):
        return told if _weights_in(told) else None
    if parameter.name not in names.TRAIN_STATES:
        return None
    code = getattr(plain_of(function), "__code__", None)
    named = code.co_names if code else ()
    classes = {made for made in beside.values() if inspect.isclass(made) and _weights_in(made)}
    fitting = [made for made in classes if _weights_in(made) in named]
    return fitting[0] if len(fitting) == 1 else None


def _weights_in(made: Any) -> str:
    """The field that holds weights; "" where there is none."""
    return next((n for n in fields_of(made) if role_of_field(n) == "weights"), "")


class Holder:
    """The class of such objects, and which of its fields holds the weights."""

    def __init__(self, made: Any) -> None:
        self.made, self.weights = made, _weights_in(made)

    def first(self, values: Mapping[str, Any]) -> Any:
        """One with the values of the fields' roles; what has a default keeps that."""
        given = {}
        taken = inspect.signature(self.made).parameters
        for name in fields_of(self.made):
            role = role_of_field(name) or ""
            if role != "weights" and taken[name].default is not inspect.Parameter.empty:
                continue
            if role not in values:
                raise BrokenError(
                    f"{self.made.__name__} holds {name}, and what that is could not be told; give "
                    "it a default"
                )
            given[name] = values[role]
        return self.made(**given)

    def with_weights(self, held: Any, weights: Any) -> Any:
        """A copy of one that holds these weights."""
        if hasattr(held, "_replace"):
            return held._replace(**{self.weights: weights})
        other = copy.copy(held)
        object.__setattr__(other, self.weights, weights)  # frozen or not
        return other

    def of(self, result: Any, given: Any) -> Any:
        """The one that a step returned, alone or in a tuple; else the one that it was given."""
        items = result if type(result) in (tuple, list) else (result,)
        return next((item for item in items if isinstance(item, self.made)), given)
