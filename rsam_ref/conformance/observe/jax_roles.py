"""What the parameters of a JAX training step are for, and what makes one."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from typing import Any

from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.arguments import (
    ROLES,
    Assignment,
    assignments,
    is_required,
    parameters_of,
    role_of,
)

JAX_ROLES = {
    "weights": [*names.WEIGHTS, *names.MODELS, "variables"],
    "optimizer": names.TRANSFORMATIONS,
    "loss": names.LOSSES,
    "gradient": names.GRADIENTS,
    "apply": names.APPLIES,
    "key": names.KEYS,
    **{role: ROLES[role] for role in ("batch", "inputs", "targets", "hyper", "number", "state")},
}
ORDER = ("weights", "state", "batch", "loss", "hyper", "key")
"""A training step's arguments where no name tells."""

GIVES_DATA = {"batch", "inputs"}
STEP_METHODS = ("step", "train_step", "update", "update_step", "__call__")


def role_in_jax(parameter: inspect.Parameter) -> str | None:
    """What a parameter is for: a role, a setting, or None."""
    return role_of(parameter, JAX_ROLES)


def is_jax_step(subject: Any) -> bool:
    """Whether a function is a training step in JAX, or makes one: it asks for a loss or for data.

    A function of weights and their gradients alone meets any framework, and is none.
    """
    if inspect.isclass(subject):
        methods = [getattr(subject, name, None) for name in STEP_METHODS[:-1]]
        return any(callable(method) for method in methods) or _sets_a_step(subject)
    roles = {role_in_jax(p) for p in parameters_of(subject).values()}
    return bool(roles & {"loss", "apply", *GIVES_DATA})


def _sets_a_step(made: type) -> bool:
    """Whether its constructor sets what steps are called: ``self.step = jax.jit(self._step)``."""
    code = getattr(vars(made).get("__init__"), "__code__", None)
    lines = dis.get_instructions(code) if code else ()
    return any(line.opname == "STORE_ATTR" and line.argval in STEP_METHODS for line in lines)


def ways_to_call(function: Callable[..., Any]) -> list[Assignment]:
    """The assignments of roles to a function's parameters, the likeliest first."""
    found = list(assignments(function, JAX_ROLES, ORDER, left_out=("number", "optimizer")))
    return [_with_train_state(function, a) for a in found]


def _with_train_state(function: Callable[..., Any], assignment: Assignment) -> Assignment:
    """A state that is taken where there are no weights holds them."""
    roles = set(assignment.values())
    if "weights" in roles or not roles & GIVES_DATA:
        return assignment
    holder = next((n for n in assignment if n in names.TRAIN_STATES), None)
    if holder is None:
        return assignment
    return {n: "holder" if n == holder else role for n, role in assignment.items()}


def makes_a_step(subject: Any) -> bool:
    """Whether this is called for a step, and is none: it takes no weights."""
    if inspect.isclass(subject):
        return True
    taken = parameters_of(subject)
    roles = {role_in_jax(p) for p in taken.values()}
    return not roles & {"weights", *GIVES_DATA} and any(
        is_required(p) or role_in_jax(p) for p in taken.values()
    )
