"""What a JAX training step keeps between its calls: an optimizer's state, or all in one object."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.arguments import called, is_required, parameters_of
from rsam_ref.conformance.observe.frameworks import names_of, plain_of
from rsam_ref.conformance.observe.holders import fields_of
from rsam_ref.conformance.observe.jax_roles import role_in_jax
from rsam_ref.conformance.observe.observer import BrokenError

INITS = (
    "init",
    "init_fn",
    "init_state",
    "init_opt_state",
    "init_optimizer",
    "init_optimizer_state",
    "create_state",
    "create_opt_state",
    "make_state",
    "initial_state",
    "init_momentum",
    "init_velocity",
    "init_sam",
    "init_rsam",
)
"""What a function is called that makes the state at the start."""


class Stepper(NamedTuple):
    """A training step, and the function that makes its state, if one came with it."""

    function: Callable[..., Any]
    init: Any = None
    owner: Any = None
    """The object whose method it is."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that a step needs in one object, by the names that Flax gives it."""

    step: Any
    params: Any
    opt_state: Any
    apply_fn: Callable[..., Any] = field(metadata={"static": True})
    tx: Any = field(metadata={"static": True})

    def apply_gradients(self, *, grads: Any, **changes: Any) -> TrainState:
        """The base optimizer's step with these gradients, from these parameters."""
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        params = jax.tree.map(lambda p, u: p + u, self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **changes)

    def replace(self, **changes: Any) -> TrainState:
        return dataclasses.replace(self, **changes)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the TrainState that stands in for one of your own has no {name!r}; annotate the "
            "parameter with your class (state: MyState)"
        )


def class_of(parameter: inspect.Parameter, function: Any) -> Any:
    """The class with fields that a parameter is annotated with; else, of those beside the function
    that hold weights and of `TrainState`, the one that has most of what the function names.
    """
    told, beside = parameter.annotation, names_of(function)
    if isinstance(told, str):
        told = beside.get(told.strip("'\""))
    if inspect.isclass(told) and fields_of(told):
        return told
    code = getattr(plain_of(function), "__code__", None)
    named = code.co_names if code else ()

    def fit(made: Any) -> int:
        return len(set(named) & {*fields_of(made), *dir(made)})

    classes = [made for made in beside.values() if inspect.isclass(made)]
    holders = [c for c in classes if "weights" in map(role_of_field, fields_of(c))]
    return max([*holders, TrainState], key=fit)


def role_of_field(name: str) -> str | None:
    """What a field of an object that holds all is for."""
    if name in ("step", "count"):
        return "number"
    known = {
        "weights": names.WEIGHTS,
        "state": names.STATES,
        "optimizer": names.TRANSFORMATIONS,
        "apply": names.APPLIES,
        "key": names.KEYS,
    }
    return next((role for role, all_ in known.items() if names.is_called(name, all_)), None)


def starts(stepper: Stepper, tx: Any) -> Iterator[str]:
    """Where the state at the start may come from, the likeliest first."""
    if stepper.init is not None:
        yield "its init"
    if tx is not None:
        yield "the optimizer's init"
    yield from (f"{name}()" for name in _inits_beside(stepper.function))
    yield from (f"{name}.init" for name in transformations(stepper))
    yield from ("zeros", "{}", "None")


def at_start(start: str, stepper: Stepper, tx: Any, known: Mapping[str, Any]) -> Any:
    """The state at the start, from one of `starts`."""
    params = known["weights"]
    if start == "its init":
        return _given(stepper.init, known)
    if start == "the optimizer's init":
        return tx.init(params)
    if start == "zeros":
        return jax.tree.map(jnp.zeros_like, params)
    if start in ("{}", "None"):
        return {} if start == "{}" else None
    if start.endswith("()"):
        return _given(names_of(stepper.function)[start[:-2]], known)
    return transformations(stepper)[start.removesuffix(".init")].init(params)


def _given(init: Any, known: Mapping[str, Any]) -> Any:
    """Call an init with the weights and whatever else it takes by name."""
    assignment = {}
    for name, parameter in parameters_of(init).items():
        role = role_in_jax(parameter) or ""
        if role in known:
            assignment[name] = role
        elif is_required(parameter) and "weights" not in assignment.values():
            assignment[name] = "weights"
        elif is_required(parameter):
            raise BrokenError(f"{init.__name__} takes {name}, and what that is could not be told")
    return called(init, assignment, known)


def _inits_beside(function: Any) -> list[str]:
    beside = names_of(function)
    return [name for name in INITS if inspect.isfunction(plain_of(beside.get(name)))]


def transformations(stepper: Stepper) -> dict[str, Any]:
    """The optax transformations that a step uses: of its module, its closure or its object."""
    plain = plain_of(stepper.function)
    plain = getattr(plain, "__func__", plain)
    code = getattr(plain, "__code__", None)
    if code is None:
        return {}
    beside = names_of(plain)
    held: dict[str, Any] = {name: beside.get(name) for name in code.co_names}
    for name, cell in zip(code.co_freevars, plain.__closure__ or ()):
        with suppress(ValueError):  # a cell that is still empty
            held[name] = cell.cell_contents
    held |= getattr(stepper.owner, "__dict__", {})
    return {name: value for name, value in held.items() if _is_transformation(value)}


def _is_transformation(value: Any) -> bool:
    return not inspect.isclass(value) and all(
        callable(getattr(value, part, None)) for part in ("init", "update")
    )
