"""Making an optimizer from its class or from a factory, by the names of the parameters.

What a constructor does not take cannot be tried: it is told, and the rest is judged without it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from rsam_ref.conformance.observe.arguments import (
    WHATEVER,
    Parameters,
    config_of,
    is_required,
    parameters_of,
    role_of,
    takes_more,
    with_settings,
)
from rsam_ref.conformance.observe.guesses import guess_of
from rsam_ref.conformance.observe.names import (
    ALIASES,
    BASE_SETTINGS,
    BASES,
    CONFIGS,
    INSTANCES,
    MODELS,
    NAMED,
    PARAMS,
    SETTINGS,
    is_called,
    setting_of,
)
from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.observe.problem import Hyper
from rsam_ref.conformance.observe.words import named

BASE_KEYWORDS = [
    "base_kwargs",
    "optimizer_kwargs",
    "base_args",
    "base_optimizer_kwargs",
    "optim_kwargs",
    "opt_kwargs",
    "base_params",
    "optimizer_args",
    "base_optimizer_args",
    "base_optim_kwargs",
    "optimizer_params",
]
"""Names of a dict of what the base optimizer is made with."""


@dataclass(frozen=True)
class Made:
    """An optimizer, what made it, and the settings that could not be passed to that."""

    optimizer: Any
    by: str
    not_passed: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    """What else it was made with: numbers whose names tell nothing, and their values."""
    guesses: dict[str, float] = field(default_factory=dict)
    """Those that had to be given, with nothing to tell what they should be."""
    taken: frozenset[str] = frozenset()
    """All that its maker takes by name."""


def construct(
    make: Any,
    params: list[Any],
    hyper: Hyper,
    net: nn.Module,
    *,
    adaptive: bool = False,
    grouped: bool = False,
    asked: Collection[str] = SETTINGS,
    renamed: Mapping[str, str] | None = None,
    numbers: Mapping[str, float] | None = None,
) -> Made:
    """An optimizer, from its class, a functools.partial of it, or a factory.

    Parameters
    ----------
    grouped:
        The params are groups with settings of their own, which must reach it.
    asked:
        The settings that the algorithm has. Others are left at the implementation's own.
    renamed:
        Parameters that were found to be a setting, by trying.
    numbers:
        Values for parameters whose names tell nothing.
    """
    return _Construction(
        make, params, hyper, net, adaptive, grouped, asked, renamed or {}, numbers or {}
    ).carry_out()


class _Construction:
    def __init__(
        self,
        make: Any,
        params: list[Any],
        hyper: Hyper,
        net: nn.Module,
        adaptive: bool,
        grouped: bool,
        asked: Collection[str],
        renamed: Mapping[str, str],
        numbers: Mapping[str, float],
    ) -> None:
        self.make, self.params, self.hyper, self.net = make, params, hyper, net
        self.adaptive, self.asked = adaptive, asked
        self.renamed, self.given_numbers = renamed, numbers
        self.by = _name(make)
        self.is_class = _is_class(make)
        self.taken, self.more = _parameters(make)
        self.base_settings = {key: getattr(hyper, key) for key in BASE_SETTINGS}
        self.passed: set[str] = set()
        self.numbers: dict[str, float] = {}
        self.guesses: dict[str, float] = {}
        if grouped and not self._takes_groups():
            raise BrokenError(
                f"{self.by} takes {self._instead_of_groups()}, not groups of parameters"
            )

    def carry_out(self) -> Made:
        has_base = any(is_called(name, BASES) for name in self.taken)
        instance_first = any(
            is_called(n, INSTANCES) and not _made_of_class(p) for n, p in self.taken.items()
        )
        failures: list[BaseException] = []
        kinds = (instance_first, not instance_first) if has_base else (False,)
        for built in kinds:
            arguments = self._arguments(built)
            try:
                optimizer = self.make(**arguments)
            except Exception as error:
                failures.append(error)
            else:
                missing = tuple(key for key in SETTINGS if key not in self.passed)
                taken = frozenset(self.taken)
                return Made(optimizer, self.by, missing, self.numbers, self.guesses, taken)
        if isinstance(failures[0], BrokenError):
            raise failures[0]
        if self.guesses:
            raise BrokenError(
                f"{self.by} needs {next(iter(self.guesses))!r}, which this check does not know; "
                "give a function make(params, hyper) that returns the optimizer"
            )
        raise BrokenError(
            f"{self.by} could not be made ({named(failures[0])}); give a function "
            "make(params, hyper) that returns the optimizer"
        )

    def _arguments(self, built: bool) -> dict[str, Any]:
        """What to call it with; ``built``: a base optimizer is given ready-made."""
        self.passed, self.numbers, self.guesses = set(), {}, {}
        arguments: dict[str, Any] = {}
        base_name = None
        for place, (name, parameter) in enumerate(self.taken.items()):
            if is_called(name, NAMED) and isinstance(self.params[0], torch.Tensor):
                arguments[name] = list(self.net.named_parameters())
            elif is_called(name, MODELS) or role_of(parameter) == "model":
                arguments[name] = self.net
            elif is_called(name, PARAMS):
                arguments[name] = self.params
            elif is_called(name, BASE_KEYWORDS):
                arguments[name] = dict(self.base_settings)
                self.passed |= self.base_settings.keys()
            elif is_called(name, BASES):
                base_name = name
            elif (config := self._config(name, parameter, place)) is not None:
                arguments[name] = config
            elif name == "adaptive":
                arguments[name] = self.adaptive
            elif (setting := self._setting(name)) is not None:
                if setting in self.asked or setting == "eta":
                    arguments[name] = getattr(self.hyper, setting)
                    self.passed.add(setting)
                elif is_required(parameter):
                    arguments[name] = self._guess(name, parameter, setting)
                    self.passed.add(setting)
            elif place == 0 and is_required(parameter) and not self.is_class:
                arguments[name] = self.params
            elif _is_number(parameter):
                if is_required(parameter):
                    self.numbers[name] = arguments[name] = self._guess(name, parameter, None)
                elif name in self.given_numbers:
                    self.numbers[name] = arguments[name] = self.given_numbers[name]
                else:
                    self.numbers[name] = float(parameter.default)
            elif is_required(parameter):
                raise BrokenError(
                    f"{self.by} needs {name!r}, which this check does not know; give a "
                    "function make(params, hyper) that returns the optimizer"
                )
        if self.more and (base_name is None or not built):
            arguments |= {k: v for k, v in self.base_settings.items() if k not in self.passed}
            self.passed |= self.base_settings.keys()
        if base_name is not None:
            arguments[base_name] = self._base(built)
        return arguments

    def _guess(self, name: str, parameter: inspect.Parameter, setting: str | None) -> float:
        settings = {s for other in self.taken if (s := setting_of(other)) is not None}
        usual = guess_of(parameter, setting, self.hyper, settings)
        self.guesses[name] = self.given_numbers.get(name, usual)
        return self.guesses[name]

    def _setting(self, name: str) -> str | None:
        return self.renamed.get(name) or setting_of(name)

    def _config(self, name: str, parameter: inspect.Parameter, place: int) -> Any:
        """The settings all together, where a parameter takes them so."""
        named = is_called(name, CONFIGS)
        required = is_required(parameter)
        if not named and not (
            not self.is_class
            and place == 1
            and required
            and len([p for p in self.taken.values() if is_required(p)]) == 2
            and setting_of(name) is None
            and name not in self.given_numbers
        ):
            return None
        if not required and with_settings(parameter.default, self.hyper) is None:
            return None
        config = config_of(parameter, self.make, self.hyper)
        if isinstance(config, Hyper):
            self.passed |= set(SETTINGS)
        else:
            held = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
            self.passed |= {s for n in held if (s := setting_of(str(n))) is not None}
        return config

    def _base(self, built: bool) -> Any:
        """A base optimizer: built, or a class that has by default what cannot be passed to it."""
        if built:
            self.passed |= self.base_settings.keys()
            return torch.optim.SGD(self.params, **self.base_settings)
        left = {k: v for k, v in self.base_settings.items() if k not in self.passed}
        if not left:
            return torch.optim.SGD
        self.passed |= left.keys()
        return _sgd_with(left)

    def _takes_groups(self) -> bool:
        first = next(iter(self.taken), "")
        takes_params = any(is_called(name, PARAMS) for name in self.taken)
        takes_base = any(is_called(name, BASES) for name in self.taken)
        takes_model = any(role_of(p) == "model" for p in self.taken.values())
        any_first = not self.is_class and bool(first) and not takes_model
        return (takes_params or takes_base or any_first) and not (takes_model and not takes_params)

    def _instead_of_groups(self) -> str:
        """What it is made of, where that is not the parameters."""
        takes_model = any(role_of(p) == "model" for p in self.taken.values())
        return "the model" if takes_model else f"({', '.join(self.taken)})"


def _sgd_with(defaults: dict[str, float]) -> type[torch.optim.SGD]:
    """SGD whose momentum (and so on) is this unless it is given."""

    class SGD(torch.optim.SGD):
        def __init__(self, params: Any, *args: Any, **given: Any) -> None:
            names = ("lr", "momentum", "dampening", "weight_decay")
            given = {**defaults, **dict(zip(names, args)), **given}
            super().__init__(params, **given)

    return SGD


def _name(make: Any) -> str:
    of = make.func if isinstance(make, functools.partial) else make
    return getattr(of, "__name__", type(of).__name__)


def _is_class(make: Any) -> bool:
    return inspect.isclass(make.func if isinstance(make, functools.partial) else make)


def _made_of_class(parameter: inspect.Parameter) -> bool:
    """Whether a base is a class by its default or annotation: ``optimizer: Type[Optimizer]``."""
    return (inspect.isclass(parameter.default) and not is_required(parameter)) or any(
        word in str(parameter.annotation) for word in ("Type[", "type[", "Callable")
    )


def _is_number(parameter: inspect.Parameter) -> bool:
    """Whether a parameter whose name tells nothing may hold a number."""
    if is_required(parameter):
        told = parameter.annotation
        name = told if isinstance(told, str) else getattr(told, "__name__", "")
        return told is parameter.empty or name in ("float", "int")
    value = parameter.default
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parameters(make: Any) -> tuple[Parameters, bool]:
    """What it takes by name, and whether it takes more by any name.

    A partial's own arguments are left to it, but for the settings: those are the check's.
    """
    if isinstance(make, functools.partial) and inspect.isclass(make.func):
        taken, more = _of_class(make.func)
        left = list(taken.items())[len(make.args) :]
        return {n: p for n, p in left if n not in make.keywords or setting_of(n)}, more
    if inspect.isclass(make):
        return _of_class(make)
    return parameters_of(make), takes_more(make)


def _of_class(made: type) -> tuple[Parameters, bool]:
    """A constructor that hands on ``*args, **kwargs`` takes what its parent's constructor takes."""
    taken: Parameters = {}
    more: list[Any] = []
    for owner in made.__mro__:
        if owner in (torch.optim.Optimizer, object):
            break
        if "__init__" not in vars(owner):
            continue
        own = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
        taken |= {p.name: p for p in own if p.kind not in WHATEVER and p.name not in taken}
        more = [p.kind for p in own if p.kind in WHATEVER]
        if not more or any(is_called(name, (*PARAMS, *MODELS, *BASES, *NAMED)) for name in taken):
            break
    return taken, inspect.Parameter.VAR_KEYWORD in more


__all__ = ["ALIASES", "BASES", "Made", "construct"]
