"""Making steps on NumPy arrays: of a function, of a class or what stands for one, of a factory.

A class is made anew for every run, with the settings that its constructor takes by name; its step
is the method that is given a function of the loss and its gradient. Settings that it keeps are
written to between steps where a step follows what is written.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsam_ref.algorithms.base import SGD
from rsam_ref.conformance.observe.arguments import (
    Assignment,
    called,
    config_of,
    is_required,
    parameters_of,
)
from rsam_ref.conformance.observe.array_roles import (
    BASE_SETTINGS,
    FUNCTIONS,
    WEIGHTS,
    maker_assignment,
    takes_base_settings,
)
from rsam_ref.conformance.observe.frameworks import framework_of, names_of
from rsam_ref.conformance.observe.names import (
    BASES,
    BATCHES,
    GRADIENTS,
    MODELS,
    SETTINGS,
    TARGETS,
    is_called,
    setting_of,
)
from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.observe.places import Place
from rsam_ref.conformance.observe.problem import Hyper

METHODS = (
    "step",
    "train_step",
    "minimize",
    "minimise",
    "update",
    "apply",
    "optimize",
    "run_step",
    "take_step",
    "do_step",
    "sam_step",
    "step_in_place",
    "iterate",
    "fit_step",
    "one_step",
)
"""What the step of a class is called; else it is its only method that takes a gradient."""
CLASSES = ("cls", "class", "factory", "fn", "type")
BASE_WORDS = ("sgd", "momentum", "gradientdescent", "heavyball")


@dataclass
class Made:
    """What a run is taken with."""

    step: Callable[..., Any]
    instance: Any = None
    """The object whose method it is."""
    passed: tuple[str, ...] = ()
    """The settings that its maker was given."""
    has_all: bool = False
    """Whether it was given all of them together."""
    holds: bool = False
    """Whether it was given the weights."""
    gradient_name: str = ""
    """What its maker calls the function of the loss and its gradient, where it takes that."""


def step_method(thing: Any, *, has_function: bool = False) -> str:
    """The method of a class or an object that is a step on arrays; "" where it has none.

    ``has_function``: it was made with the function of the loss; its step takes weights alone.
    """
    # Of the class, where no property is asked; so each method has its self.
    own = {
        name: value
        for name, value in inspect.getmembers(thing if inspect.isclass(thing) else type(thing))
        if callable(value)
        and not inspect.isclass(value)
        and (
            name[0] != "_"
            or (name == "__call__" and inspect.isfunction(getattr(value, "__func__", value)))
        )
    }
    found = [name for name, value in own.items() if _takes(value, GRADIENTS)]
    if not found:
        known = WEIGHTS if has_function else FUNCTIONS
        least = 1 if has_function else 2
        found = [
            name
            for name in (*METHODS, "__call__")
            if name in own and _takes(own[name], known, least + 1)
        ]
    known = [name for name in METHODS if name in found]
    with_step = [name for name in found if "step" in name]
    others = [name for name in found if name != "__call__"]
    return next(iter([*known, *with_step, *others, *found]), "")


def is_array_step(subject: Any) -> bool:
    """Whether this is, or makes, a step on NumPy arrays, and is no function that is one itself."""
    plain = subject.func if isinstance(subject, functools.partial) else subject
    if inspect.isclass(plain):
        return _is_array_class(plain)
    if not inspect.isroutine(plain):
        return framework_of(plain) in (None, "torch") and step_method(plain) not in ("", "__call__")
    return not _takes(subject, GRADIENTS) and (
        _names_function_and_weights(subject) or makes_array_step(subject)
    )


def _is_array_class(made: type) -> bool:
    """Whether a class has a step on NumPy arrays, and belongs to no framework."""
    if framework_of(made) not in (None, "torch"):
        return False
    of_torch = any((parent.__module__ or "").startswith("torch.") for parent in made.__mro__)
    name = "" if of_torch else step_method(made, has_function=_is_made_with_function(made))
    if not name or framework_of(made) is None:
        return bool(name)
    return any(is_called(n, WEIGHTS) for n in parameters_of(getattr(made, name)))


def _names_function_and_weights(function: Any) -> bool:
    """Whether it takes weights, and f: a loss and its gradient by a name that tells less."""
    try:
        taken = parameters_of(function)
    except (TypeError, ValueError):
        return False
    required = [name for name, p in taken.items() if is_required(p)]
    return framework_of(function) is None and (
        any(is_called(n, FUNCTIONS) for n in required)
        and any(is_called(n, WEIGHTS) for n in required)
        and not any(is_called(n, (*BASES, *MODELS, *BATCHES, *TARGETS)) for n in required)
    )


def makes_array_step(subject: Any) -> bool:
    """Whether a function, called with settings, returns a step on NumPy arrays."""
    if inspect.isclass(subject) or framework_of(subject) in ("jax", "keras", "mlx"):
        return False
    assignment, unknown = maker_assignment(subject, SETTINGS)
    if unknown or not assignment or {"weights", "gradient"} & set(assignment.values()):
        return False
    try:
        made = _called(subject, assignment, Hyper(), {}, False)
    except Exception:  # it makes something else, of something else
        return False
    return _is_step(made) or bool(not inspect.isclass(made) and step_method(made))


def _gives_step(subject: Any) -> bool:
    """Whether a factory that is given the function of the loss returns a step, and no number."""

    def nothing(*_: Any) -> Any:
        raise NotImplementedError

    assignment, _ = maker_assignment(subject, SETTINGS)
    try:
        made = _called(subject, assignment, Hyper(), {"gradient": nothing}, False)
    except Exception:  # it asks for a gradient: it is a step itself
        return False
    return inspect.isroutine(made) or bool(step_method(made, has_function=True))


def _is_step(made: Any) -> bool:
    return inspect.isroutine(made) and (_takes(made, GRADIENTS) or _takes(made, FUNCTIONS, 2))


def _takes(function: Any, called_so: Collection[str], least: int = 1) -> bool:
    """Whether so many parameters must be given, and one of them goes by one of these names."""
    try:
        taken = parameters_of(function)
    except (TypeError, ValueError):
        return False
    required = [name for name, p in taken.items() if is_required(p)]
    return len(required) >= least and any(is_called(name, called_so) for name in required)


def _is_made_with_function(subject: Any) -> bool:
    """Whether a constructor or a factory, and not the step that it makes, is given the function."""
    assignment, unknown = maker_assignment(subject, SETTINGS)
    roles = assignment.values()
    return not unknown and "gradient" in roles and "weights" not in roles


class ArrayMaker:
    """Makes a run's step as often as one is needed."""

    def __init__(self, subject: Any, *, adaptive: bool = False) -> None:
        self.method = ""
        if inspect.ismethod(subject) and not inspect.isclass(subject.__self__):
            subject, self.method = subject.__self__, subject.__name__
        self.subject, self.adaptive = subject, adaptive
        plain = subject.func if isinstance(subject, functools.partial) else subject
        self.kind = "function"
        if inspect.isclass(plain):
            self.kind = "class"
        elif self.method or (
            not inspect.isroutine(plain) and step_method(subject) not in ("", "__call__")
        ):
            self.kind = "instance"
        elif (not _takes(subject, GRADIENTS) and makes_array_step(subject)) or (
            _is_made_with_function(subject) and _gives_step(subject)
        ):
            self.kind = "factory"
        self.places: dict[str, tuple[Place, ...]] = {}
        """Where the settings are kept that have been looked for."""

    @property
    def by(self) -> str:
        of = self.subject.func if isinstance(self.subject, functools.partial) else self.subject
        default = type(of).__name__ if self.kind == "instance" else "train_step"
        return getattr(of, "__name__", default)

    def make(self, hyper: Hyper, asked: Collection[str], given: dict[str, Any]) -> Made:
        """One that has made no step. ``given`` holds what else a constructor may be given."""
        if self.kind == "function":
            return Made(self.subject)
        if self.kind == "instance":
            return self._of(copy.deepcopy(self.subject), {}, ())
        assignment, unknown = maker_assignment(self.subject, asked)
        if unknown:
            raise BrokenError(
                f"{self.by} needs {unknown!r}, which this check does not know; give a function "
                "make(hyper) that returns the object"
            )
        more = takes_base_settings(self.subject) and "base" in assignment.values()
        try:
            made = _called(
                self.subject, assignment, hyper, {**given, "adaptive": self.adaptive}, more
            )
        except BrokenError:
            raise
        except Exception as error:
            raise BrokenError(
                f"{self.by} could not be made ({type(error).__name__}: {error}); give a function "
                "make(hyper) that returns the object"
            ) from error
        passed = set(assignment.values()) & set(SETTINGS)
        if "base" in assignment.values():
            passed |= set(BASE_SETTINGS)
        return self._of(made, assignment, tuple(passed))

    def _of(self, made: Any, assignment: Assignment, passed: tuple[str, ...]) -> Made:
        roles = set(assignment.values())
        function = next((n for n, role in assignment.items() if role == "gradient"), "")
        if inspect.isroutine(made):
            return Made(made, None, passed, "hyper" in roles, False, function)
        name = self.method or step_method(made, has_function=bool(function))
        if not name:
            raise BrokenError(
                f"{self.by} has no method that takes loss_and_grad; give it a "
                "step(loss_and_grad, w), or a function make(hyper) that returns what has one"
            )
        return Made(
            getattr(made, name), made, passed, "hyper" in roles, "weights" in roles, function
        )


def _called(
    make: Any, assignment: Assignment, hyper: Hyper, given: dict[str, Any], more: bool
) -> Any:
    """What it makes, with the values of its parameters' roles."""
    taken = parameters_of(make)
    values: dict[str, Any] = {**vars(hyper), "seed": 0, "rng": np.random.default_rng(0), **given}
    for name, role in assignment.items():
        if role == "hyper":
            values["hyper"] = config_of(taken[name], make, hyper)
        elif role == "base":
            values["base"] = _base(make, name, taken[name], hyper)
    settings = {s: getattr(hyper, s) for s in BASE_SETTINGS if s not in assignment.values()}
    is_class = inspect.isclass(values.get("base"))
    return called(make, assignment, values, more=settings if more and is_class else None)


def _base(make: Any, name: str, parameter: inspect.Parameter, hyper: Hyper) -> Any:
    """A base optimizer: SGD as its file has it, else this project's; the class where it asks so."""
    own = [
        value
        for value in names_of(make).values()
        if inspect.isclass(value)
        and value is not make
        and any(word in value.__name__.lower().replace("_", "") for word in BASE_WORDS)
        and _is_base(value)
    ]
    own.sort(key=lambda value: value.__module__ != getattr(make, "__module__", ""))
    made = own[0] if own else SGD
    as_class = (
        name.lower().split("_")[-1] in CLASSES or "type[" in str(parameter.annotation).lower()
    )
    if as_class:
        return made
    taken = {n: s for n in parameters_of(made) if (s := setting_of(n)) in BASE_SETTINGS}
    return made(**{n: getattr(hyper, s) for n, s in taken.items()})


def _is_base(made: type) -> bool:
    """Whether a class can be made with a learning rate, and takes no function of the loss."""
    assignment, unknown = maker_assignment(made, BASE_SETTINGS)
    return not unknown and "lr" in assignment.values() and not step_method(made)
