"""Giving a function of a stranger what it takes, by the names of its parameters.

Where a required parameter's name tells nothing, its annotation is asked; where that tells nothing,
all that is still to be given is tried in turn.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.frameworks import as_partial
from rsam_ref.conformance.observe.names import AnyName, is_called, setting_of
from rsam_ref.conformance.observe.problem import Hyper

Parameters = dict[str, inspect.Parameter]
WHATEVER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

ROLES = {
    "model": names.MODELS,
    "optimizer": names.BASES,
    "loss": names.LOSSES,
    "batch": names.BATCHES,
    "inputs": names.INPUTS,
    "targets": names.TARGETS,
    "hyper": names.CONFIGS,
    "loader": names.LOADERS,
    "device": names.DEVICES,
    "number": names.NUMBERS,
    "state": names.STATES,
    "scaler": names.SCALERS,
    "accelerator": names.ACCELERATORS,
}
"""What a training step is given, and what that is called."""

ORDER = ("model", "optimizer", "loss", "batch", "hyper")
"""A training step's arguments where no name tells."""

Assignment = dict[str, str]
"""Each parameter's role, or the setting that it is."""


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(as_partial(function))


def parameters_of(function: Callable[..., Any]) -> Parameters:
    """The named parameters of a callable; those that hold whatever is left are not among them."""
    taken = signature_of(function).parameters.values()
    return {p.name: p for p in taken if p.kind not in WHATEVER}


def takes_more(function: Callable[..., Any]) -> bool:
    """Whether it takes further arguments by any name."""
    taken = signature_of(function).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in taken)


def takes_rest(function: Callable[..., Any]) -> bool:
    """Whether it takes further arguments by position: ``*batch``."""
    taken = signature_of(function).parameters.values()
    return any(p.kind is p.VAR_POSITIONAL for p in taken)


def is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty


def role_of(
    parameter: inspect.Parameter, roles: Mapping[str, Collection[str]] = ROLES
) -> str | None:
    """What a parameter of a training step is for: a role, a setting, or None."""
    name = parameter.name
    for role, known in roles.items():
        if is_called(name, known):
            return role
    told = setting_of(name) or _by_annotation(parameter)
    return told if told in roles or told in names.ALIASES else None


def _by_annotation(parameter: inspect.Parameter) -> str | None:
    told = parameter.annotation
    if told is parameter.empty:
        return None
    text = told if isinstance(told, str) else getattr(told, "__name__", str(told))
    last = text.split("[")[0].split(".")[-1].strip("'\" ")
    return {
        "Module": "model",
        "Sequential": "model",
        "Optimizer": "optimizer",
        "SGD": "optimizer",
        "Callable": "loss",
        "_Loss": "loss",
        "DataLoader": "loader",
        "GradScaler": "scaler",
        "Accelerator": "accelerator",
    }.get(last)


def assignments(
    function: Callable[..., Any],
    roles: Mapping[str, Collection[str]] = ROLES,
    order: Sequence[str] = ORDER,
    left_out: Collection[str] = ("number", "state", "device", "loader"),
) -> Iterator[Assignment]:
    """The ways to call a training step, the likeliest first.

    What is optional is given only where its name says that it matters: the roles of ``left_out``
    are not.
    """
    taken = parameters_of(function)
    known: Assignment = {}
    open_to_all = []
    for name, parameter in taken.items():
        role = role_of(parameter, roles)
        if role is not None and role not in known.values():
            if is_required(parameter) or role not in left_out:
                known[name] = role
        elif is_required(parameter):
            open_to_all.append(name)
    if "targets" in known.values() and "inputs" not in known.values():
        known = {n: "inputs" if r == "batch" else r for n, r in known.items()}
    told = set(known.values())
    left = [role for role in order if role not in told]
    if {"inputs", "targets"} & told:
        left = [role for role in (*left, "inputs", "targets") if role not in told]
        left.remove("batch")
    if any(role in names.SETTINGS for role in told):
        left = [role for role in left if role != "hyper"]
    if not open_to_all:
        yield known
        return
    choices = [left]
    if "inputs" not in left and "batch" in left:
        apart = [role for role in left if role != "batch"]
        choices.append([*apart[:2], "inputs", "targets", *apart[2:]])
    count = 0
    for choice in choices:
        for chosen in itertools.permutations(choice, len(open_to_all)):
            if ("inputs" in chosen) != ("targets" in chosen) and not {"inputs", "targets"} & told:
                continue
            yield known | dict(zip(open_to_all, chosen))
            count += 1
            if count >= MOST_TRIED:
                return


MOST_TRIED = 60


def asked_alone(
    function: Callable[..., Any], assignment: Assignment, asked: Collection[str]
) -> Assignment:
    """Without the optional settings that the algorithm does not have: they stay what they are."""
    if not assignment:
        return assignment
    taken = parameters_of(function)
    return {
        name: role
        for name, role in assignment.items()
        if role not in names.SETTINGS or role in asked or is_required(taken[name])
    }


def config_of(parameter: inspect.Parameter, function: Callable[..., Any], hyper: Hyper) -> Any:
    """The settings in the form in which a parameter takes them all together.

    That is a copy of its default, or of what its annotation makes, with the settings in it; or
    something that has them all under every name.
    """
    default = parameter.default
    if default is not parameter.empty and default is not None:
        made = with_settings(default, hyper)
        if made is not None:
            return made
    annotated = parameter.annotation
    if isinstance(annotated, str):
        annotated = getattr(function, "__globals__", {}).get(annotated)
    if inspect.isclass(annotated) and dataclasses.is_dataclass(annotated):
        fields = {f.name: setting_of(f.name) for f in dataclasses.fields(annotated) if f.init}
        values = {n: getattr(hyper, setting) for n, setting in fields.items() if setting}
        try:
            return annotated(**values)
        except Exception:  # needs more than settings
            return AnyName.of(hyper)
    if annotated is dict:
        return dict(hyper) | {
            n: getattr(hyper, s) for s, all_ in names.ALIASES.items() for n in all_
        }
    return AnyName.of(hyper)


def with_settings(config: Any, hyper: Hyper) -> Any:
    """A copy of a dict, dataclass or namespace in which the settings are those of ``hyper``.

    None where it is none of these, or holds no setting.
    """
    if isinstance(config, Mapping):
        values = dict(config)
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.init}
    elif isinstance(config, types.SimpleNamespace):
        values = dict(vars(config))
    else:
        return None
    changes = {n: getattr(hyper, s) for n in values if (s := setting_of(str(n))) is not None}
    if not changes:
        return None
    if isinstance(config, Mapping):
        return values | changes
    if isinstance(config, types.SimpleNamespace):
        return types.SimpleNamespace(**(values | changes))
    return dataclasses.replace(config, **changes)


def called(
    function: Callable[..., Any],
    assignment: Assignment,
    values: Mapping[str, Any],
    rest: Any = (),
    more: Mapping[str, Any] | None = None,
) -> Any:
    """Call it with the values of each parameter's role; ``rest`` goes to ``*args``, ``more`` to
    ``**kwargs``.
    """
    taken = signature_of(function).parameters
    by_place, by_name = [], {}
    for name, parameter in taken.items():
        if name not in assignment:
            continue
        value = values[assignment[name]]
        if parameter.kind is parameter.POSITIONAL_ONLY or (
            rest and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ):
            by_place.append(value)
        else:
            by_name[name] = value
    return function(*by_place, *rest, **by_name, **(more or {}))


def has_steps(made: type) -> bool:
    """Whether a class has methods by which weights may be moved."""
    words = (*HALVES, "step")
    return any(
        callable(value) and any(word in name for word in words)
        for name, value in inspect.getmembers(made)
        if not name.startswith("__")
    )


HALVES = ("perturb", "ascent", "ascend", "descent", "restore", "first", "second", "climb", "update")
