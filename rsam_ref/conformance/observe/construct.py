"""Making an optimizer from its class, by the names of its constructor's parameters.

What a constructor does not take cannot be tried: it is told, and the rest is judged without it.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.observe.problem import Hyper

ALIASES = {
    "sigma": ("sigma", "noise_std", "noise_scale", "std", "noise_sigma"),
    "lam": ("lam", "lambda_", "lamb", "lmbda", "lamda", "lambda_reg"),
    "rho": ("rho", "radius"),
    "eta": ("eta",),
    "lr": ("lr", "learning_rate"),
    "momentum": ("momentum", "mu"),
    "weight_decay": ("weight_decay", "wd"),
}
PARAMS = ("params", "parameters", "param_groups", "named_parameters")
BASES = ("base_optimizer", "base", "optimizer", "optim", "optimizer_cls", "optimizer_class")
MODELS = ("model", "net", "module")
INSTANCES = ("optimizer", "optim", "base")
"""Names of a base optimizer that is likely to be given ready-made, not as a class."""

BASE_SETTINGS = ("lr", "momentum", "weight_decay")
SETTINGS = ("rho", "sigma", "lam", *BASE_SETTINGS)


@dataclass(frozen=True)
class Made:
    """An optimizer, what made it, and the settings that could not be passed to that."""

    optimizer: Any
    by: str
    not_passed: tuple[str, ...] = ()


def construct(
    make: Any,
    params: list[Any],
    hyper: Hyper,
    net: nn.Module,
    *,
    adaptive: bool = False,
    grouped: bool = False,
) -> Made:
    """An optimizer, from its class, a functools.partial of it, or a factory.

    ``grouped``: the params are groups with settings of their own, which must reach it.
    """
    by = _name(make)
    values: dict[str, Any] = {
        name: getattr(hyper, key) for key, names in ALIASES.items() for name in names
    }
    values["adaptive"] = adaptive
    taken, takes_more = _parameters(make, values)
    if _is_factory(make, list(taken), values):
        if len(inspect.signature(make).parameters) > 1:
            return Made(make(params, hyper), by)
        return Made(make(params), by, SETTINGS)
    has_base = any(name in taken for name in BASES)
    instance_first = any(name in taken for name in INSTANCES)
    if grouped and not instance_first and not any(name in taken for name in PARAMS):
        raise BrokenError(f"{by} takes the model's parameters, not groups of them")
    failures = []
    for base_as_class in (not instance_first, instance_first):
        arguments: dict[str, Any] = {}
        unknown = []
        base_settings = {key: getattr(hyper, key) for key in BASE_SETTINGS}
        base = torch.optim.SGD if base_as_class else torch.optim.SGD(params, **base_settings)
        for name, parameter in taken.items():
            if name in PARAMS:
                arguments[name] = params
            elif name in BASES:
                arguments[name] = base
            elif name in MODELS:
                arguments[name] = net
            elif name in values:
                arguments[name] = values[name]
            elif parameter.default is parameter.empty:
                unknown.append(name)
        if unknown:
            raise BrokenError(
                f"{by} needs {unknown[0]!r}, which this check does not know; give a "
                "function make(params, hyper) that returns the optimizer"
            )
        passed = {key for key, names in ALIASES.items() if any(n in arguments for n in names)}
        if takes_more and (base_as_class or not has_base):
            arguments |= {k: v for k, v in base_settings.items() if k not in passed}
            passed |= base_settings.keys()
        if has_base and not base_as_class:
            passed |= base_settings.keys()
        try:
            optimizer = make(**arguments)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")
        else:
            return Made(optimizer, by, tuple(key for key in SETTINGS if key not in passed))
        if not has_base:
            break
    raise BrokenError(
        f"{by} could not be made ({failures[0]}); give a function make(params, hyper) "
        "that returns the optimizer"
    )


def _name(make: Any) -> str:
    of = make.func if isinstance(make, functools.partial) else make
    return getattr(of, "__name__", type(of).__name__)


def _is_factory(make: Any, names: list[str], values: dict[str, Any]) -> bool:
    """Whether it is make(params) or make(params, hyper), not called by its parameters' names."""
    if inspect.isclass(make) or (
        isinstance(make, functools.partial) and inspect.isclass(make.func)
    ):
        return False
    return not any(name in values for name in names[1:2])


WHATEVER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _parameters(make: Any, values: dict[str, Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """What it takes by name, and whether it takes more by any name.

    A partial's own arguments are left to it, but for the settings: those are the check's.
    """
    if isinstance(make, functools.partial) and inspect.isclass(make.func):
        taken, more = _of_class(make.func)
        left = list(taken.items())[len(make.args) :]
        return {n: p for n, p in left if n not in make.keywords or n in values}, more
    if inspect.isclass(make):
        return _of_class(make)
    signature = inspect.signature(make).parameters
    taken = {name: p for name, p in signature.items() if p.kind not in WHATEVER}
    return taken, any(p.kind is p.VAR_KEYWORD for p in signature.values())


def _of_class(made: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """A constructor that hands on ``*args, **kwargs`` takes what its parent's constructor takes."""
    taken: dict[str, inspect.Parameter] = {}
    more: list[Any] = []
    for owner in made.__mro__:
        if owner in (torch.optim.Optimizer, object):
            break
        if "__init__" not in vars(owner):
            continue
        own = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
        taken |= {p.name: p for p in own if p.kind not in WHATEVER and p.name not in taken}
        more = [p.kind for p in own if p.kind in WHATEVER]
        if not more or any(name in taken for name in (*PARAMS, *MODELS, *BASES)):
            break
    return taken, inspect.Parameter.VAR_KEYWORD in more
