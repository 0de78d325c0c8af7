"""What the parameters of a step on NumPy arrays are for, and those of what makes one."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Collection
from typing import Any

from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.arguments import (
    Assignment,
    is_required,
    parameters_of,
    takes_more,
)
from rsam_ref.conformance.observe.holders import VELOCITIES, class_held
from rsam_ref.conformance.observe.names import BASE_SETTINGS, SETTINGS, is_called, setting_of

ORDER = ("weights", "gradient", "state", "hyper")
"""A function's arguments where their names do not tell."""

WEIGHTS = [*names.WEIGHTS, "x", "x0", "w0", "weight", "vector", "flat", "w_flat", "thetas"]
FUNCTIONS = [
    "f",
    "fn",
    "func",
    "closure",
    "loss_fn",
    "objective",
    "lossfn",
    "df",
    "fg",
    "loss_func",
]
"""What the loss and its gradient are called where the name does not say which of them it gives."""
SEEDS = ("seed", "random_state", "random_seed", "rng_seed")
SHAPES = ("shapes", "param_shapes", "layer_shapes")
NOISES = ("noise", "draw", "z", "d", "perturbation", "delta")

MEMORIES = [*names.STATES, *VELOCITIES, "m", "mem", "vs", "ms", "u", "prev", "cache", "aux"]
"""What an optional argument is called to which what is returned beside the weights is given."""

OF_ONE_STEP = (
    *("noise", "draw", "eps", "pert", "delta", "adv", "grad", "loss", "norm", "dir", "mask"),
    *("rng", "key", "seed", "gen", "batch", "out", "info", "metric", "log", "scale"),
)
"""What the names of what belongs to one step have in them."""

ARRAYS = ("grad", "grads", "gradient", "gradients")
"""What the gradient itself is called."""

STEP_ROLES = {
    "weights": WEIGHTS,
    "gradient": names.GRADIENTS,
    "state": [*names.STATES, *VELOCITIES],
    "hyper": names.CONFIGS,
    "number": names.NUMBERS,
    "rng": names.KEYS,
    "seed": SEEDS,
    "shapes": SHAPES,
    "noise": NOISES,
    "batch": names.BATCHES,
    "inputs": names.INPUTS,
    "targets": names.TARGETS,
}
MAKER_ROLES = {
    "base": names.BASES,
    "hyper": names.CONFIGS,
    "rng": names.KEYS,
    "seed": SEEDS,
    "shapes": SHAPES,
    "adaptive": ("adaptive",),
    "weights": [n for n in WEIGHTS if n != "x"],
    "gradient": names.GRADIENTS,
}
SECOND_NAMES = {"eta": "lr", "alpha": "lr", "gamma": "lr", "beta": "momentum", "beta1": "momentum"}
"""What a number means where nothing else is that setting."""


def assignments_of(function: Callable[..., Any], asked: Collection[str]) -> list[Assignment]:
    """What each parameter of a step is for, the likeliest first: a role, or a setting.

    None where its signature cannot be read, or takes whatever comes.
    """
    try:
        taken = parameters_of(function)
    except (TypeError, ValueError):
        return [{}]
    found = _named(taken, STEP_ROLES, given=("hyper", "state", "shapes"))
    required = [name for name, p in taken.items() if is_required(p)]
    _second(found, required, asked)
    if "gradient" not in found.values():
        called = next((n for n in required if is_called(n, FUNCTIONS) and n not in found), None)
        if called is not None:
            found[called] = "gradient"
    elif "loss" not in found.values():
        called = next((n for n in required if is_called(n, names.LOSSES) and n not in found), None)
        if called is not None:
            found[called] = "loss"
    _first_gradient(found, required)
    if "state" not in found.values() and (kept := _memory(function, taken, found)):
        found[kept] = "state"
    if "weights" not in found.values() and (holder := _holder(function, taken, found)):
        found = {n: r for n, r in found.items() if r != "state"} | {holder: "holder"}
        return [{n: found[n] for n in taken if n in found}]
    unknown = [name for name in required if name not in found]
    left = [role for role in ORDER if role not in found.values()]
    chosen = [found | dict(zip(unknown, left))]
    if {"weights", "gradient"} <= set(left) and len(unknown) > 1:
        swapped = dict(zip(unknown, ("gradient", "weights", *left[2:])))
        chosen.append(found | swapped)
    return [{n: a[n] for n in taken if n in a} for a in chosen]


def _first_gradient(found: Assignment, required: list[str]) -> None:
    """What is called grads is the gradient at the weights where another is a function of it."""
    arrays = next((n for n, r in found.items() if r == "gradient" and is_called(n, ARRAYS)), None)
    known = [*names.GRADIENTS, *FUNCTIONS, *names.LOSSES]
    functions = [n for n in required if n != arrays and is_called(n, known)]
    functions = [n for n in functions if not is_called(n, ARRAYS)]
    if arrays is not None and functions:
        found |= {arrays: "first", functions[0]: "gradient"}


def _holder(
    function: Callable[..., Any], taken: dict[str, inspect.Parameter], found: Assignment
) -> str:
    """The required parameter that is one object with all that a step needs; "" for none."""
    free = [n for n, p in taken.items() if is_required(p) and found.get(n, "state") == "state"]
    return next((n for n in free if class_held(taken[n], function) is not None), "")


def _memory(
    function: Callable[..., Any], taken: dict[str, inspect.Parameter], found: Assignment
) -> str:
    """The optional argument that is to be given what an earlier step returned; "" for none.

    It is called so, or the function returns it by its name: but not a draw, a gradient or the like,
    which would be another's in the next step. A number other than 0 is a setting.
    """
    free = [n for n, p in taken.items() if n not in found and not is_required(p)]
    free = [n for n in free if setting_of(n) is None and _may_be_memory(taken[n].default)]
    returned = _returned(function)
    called = [n for n in free if is_called(n, MEMORIES)]
    sure = [n for n in called if n in returned]
    others = [n for n in free if n in returned and taken[n].default is None]
    others = [n for n in others if not any(word in n.lower() for word in OF_ONE_STEP)]
    others = [n for n in others if len(n) > 1 and not is_called(n, NOISES)]
    called = [n for n in called if taken[n].default is None or is_called(n, VELOCITIES)]
    return next(iter([*sure, *others, *called]), "")


def _may_be_memory(default: Any) -> bool:
    if isinstance(default, bool | str) or callable(default):
        return False
    return not isinstance(default, int | float) or default == 0


def _returned(function: Callable[..., Any]) -> set[str]:
    """The names that a function returns beside something else."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Return) else None
        items: list[Any] = []
        if isinstance(value, ast.Tuple):
            items = value.elts
        elif isinstance(value, ast.Dict):
            items = value.values
        found |= {item.id for item in items if isinstance(item, ast.Name)}
    return found


def maker_assignment(make: Callable[..., Any], asked: Collection[str]) -> tuple[Assignment, str]:
    """What each parameter of a constructor or a factory is for, and a required one that is not
    known ("" where all are).
    """
    try:
        taken = parameters_of(make)
    except (TypeError, ValueError):
        return {}, ""
    found = _named(taken, MAKER_ROLES, given=("hyper", "shapes", "adaptive", "base"))
    _second(found, [n for n, p in taken.items() if _may_be_number(p)], asked)
    rate = "lr" in found.values() or "hyper" in found.values()
    for name in [n for n, role in found.items() if role == "base"]:
        default = taken[name].default
        hands_on = inspect.isclass(default) and takes_base_settings(make)
        if not is_required(taken[name]) and (rate or (default is not None and not hands_on)):
            del found[name]  # it has one of its own
    unknown = [name for name, p in taken.items() if is_required(p) and name not in found]
    found = {
        n: role
        for n, role in found.items()
        if role not in SETTINGS or role in asked or is_required(taken[n])
    }
    return found, next(iter(unknown), "")


def takes_base_settings(make: Callable[..., Any]) -> bool:
    """Whether a constructor hands on what else it is given."""
    try:
        return takes_more(make)
    except (TypeError, ValueError):
        return False


def _named(
    taken: dict[str, inspect.Parameter], roles: dict[str, Any], given: Collection[str]
) -> Assignment:
    """What the names tell; of what is optional the settings, and the roles ``given``."""
    found: Assignment = {}
    for name, parameter in taken.items():
        role = setting_of(name) or next(
            (r for r, known in roles.items() if is_called(name, known) and r not in found.values()),
            None,
        )
        if is_called(name, VELOCITIES) and not is_required(parameter):
            continue  # see _memory
        if role is not None and (is_required(parameter) or setting_of(name) or role in given):
            found[name] = role
    for name in [n for n, role in found.items() if role == "hyper"]:
        if taken[name].default is None and set(found.values()) & set(SETTINGS):
            del found[name]
    return found


def _second(found: Assignment, names_of_numbers: list[str], asked: Collection[str]) -> None:
    """What is called eta is the learning rate where nothing else is, and no ASAM is asked for."""
    if "hyper" in found.values():
        return
    for name in names_of_numbers:
        setting = SECOND_NAMES.get(name.lower().strip("_"))
        free = setting is not None and setting not in found.values()
        if free and (name not in found or (name == "eta" and "eta" not in asked)):
            found[name] = str(setting)


def _may_be_number(parameter: inspect.Parameter) -> bool:
    default = parameter.default
    return is_required(parameter) or (
        isinstance(default, int | float) and not isinstance(default, bool)
    )


__all__ = ["BASE_SETTINGS", "ORDER", "assignments_of", "maker_assignment", "takes_base_settings"]
