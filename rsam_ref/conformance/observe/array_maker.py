"""Making steps on NumPy arrays: of a function, of a class or what stands for one, of a factory.

A class is made anew for every run, with the settings that its constructor takes by name; its step
is the method that is given a function of the loss and its gradient. Settings that it keeps are
written to between steps where a step follows what is written.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
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
    ARRAYS,
    BASE_SETTINGS,
    FUNCTIONS,
    WEIGHTS,
    maker_assignment,
    takes_base_settings,
)
from rsam_ref.conformance.observe.frameworks import (
    FRAMEWORKS,
    framework_of,
    is_numpy_alone,
    names_of,
)
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
from rsam_ref.conformance.observe.words import named

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
    "train_one",
    "train_batch",
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


def step_method(thing: Any, *, has_function: bool = False, has_both: bool = False) -> str:
    """The method of a class or an object that is a step on arrays; "" where it has none.

    ``has_function``: it was made with the function of the loss; its step takes weights alone.
    ``has_both``: it was made with the weights too; its step takes nothing, or settings.
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
    if not found and has_both:
        alone = [name for name, value in own.items() if _takes_settings_alone(value)]
        public = [name for name in alone if name != "__call__"]
        usual = [name for name in public if name in METHODS or "step" in name]
        found = usual or (public if len(public) == 1 else [n for n in alone if n not in public])
    elif not found:
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
    function, both = _is_made_with_function(made), _is_made_with_both(made)
    name = "" if of_torch else step_method(made, has_function=function, has_both=both)
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
    """Whether a function, called with settings, returns a step on NumPy arrays.

    In a file of NumPy's alone it may be called with weights as well.
    """
    if inspect.isclass(subject) or framework_of(subject) in ("jax", "keras", "mlx"):
        return False
    assignment, unknown = maker_assignment(subject, SETTINGS)
    if unknown or not assignment or "gradient" in assignment.values():
        return False
    tried: list[dict[str, Any]] = [{}]
    if "weights" in assignment.values():
        tried = [{"weights": w} for w in _small_weights()] if is_numpy_alone(subject) else []
    for given in tried:
        try:
            made = _called(subject, assignment, Hyper(), given, False)
        except Exception:  # it makes something else, of something else
            continue
        if _is_step(made) or (not inspect.isclass(made) and step_method(made)):
            return True
    return False


def _small_weights() -> list[Any]:
    """Weights as each layout has them, to see whether something can be made of them."""
    parts = [np.ones((2, 3)), np.ones(2)]
    return [parts, np.ones(8), dict(zip(("weight", "bias"), parts))]


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


def _is_made_with_both(subject: Any) -> bool:
    """Whether a constructor is given the weights and the function."""
    assignment, unknown = maker_assignment(subject, SETTINGS)
    return not unknown and {"gradient", "weights"} <= set(assignment.values())


def _takes_settings_alone(function: Any) -> bool:
    """Whether a method takes nothing that is required beside itself and settings."""
    try:
        taken = parameters_of(function)
    except (TypeError, ValueError):
        return False
    required = [name for name, p in taken.items() if is_required(p)]
    return required[:1] == ["self"] and all(setting_of(name) for name in required[1:])


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

    def takes_base(self, asked: Collection[str]) -> bool:
        """Whether what makes it is given a base optimizer."""
        if self.kind in ("function", "instance"):
            return False
        return "base" in maker_assignment(self.subject, asked)[0].values()

    def make(
        self,
        hyper: Hyper,
        asked: Collection[str],
        given: dict[str, Any],
        *,
        other_base: bool = False,
    ) -> Made:
        """One that has made no step. ``given`` holds what else a constructor may be given.

        ``other_base``: see `Way`.
        """
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
            values = {**given, "adaptive": self.adaptive}
            made = _called(self.subject, assignment, hyper, values, more, other_base)
        except BrokenError:
            raise
        except Exception as error:
            raise BrokenError(
                f"{self.by} could not be made ({named(error)}); give a function "
                "make(hyper) that returns the object"
            ) from error
        passed = set(assignment.values()) & set(SETTINGS)
        if "base" in assignment.values():
            passed |= _base_settings(_base_class(self.subject, assignment))
        return self._of(made, assignment, tuple(passed))

    def _of(self, made: Any, assignment: Assignment, passed: tuple[str, ...]) -> Made:
        roles = set(assignment.values())
        function = next((n for n, role in assignment.items() if role == "gradient"), "")
        if inspect.isroutine(made):
            return Made(made, None, passed, "hyper" in roles, False, function)
        both = {"weights", "gradient"} <= roles
        name = self.method or step_method(made, has_function=bool(function), has_both=both)
        if not name:
            raise BrokenError(
                f"{self.by} has no method that takes loss_and_grad; give it a "
                "step(loss_and_grad, w), or a function make(hyper) that returns what has one"
            )
        return Made(
            getattr(made, name), made, passed, "hyper" in roles, "weights" in roles, function
        )


def _called(
    make: Any,
    assignment: Assignment,
    hyper: Hyper,
    given: dict[str, Any],
    more: bool,
    other_base: bool = False,
) -> Any:
    """What it makes, with the values of its parameters' roles."""
    taken = parameters_of(make)
    values: dict[str, Any] = {**vars(hyper), "seed": 0, "rng": np.random.default_rng(0), **given}
    for name, role in assignment.items():
        if role == "hyper":
            values["hyper"] = config_of(taken[name], make, hyper)
        elif role == "base":
            values["base"] = _base(make, taken[name], hyper, given.get("weights"), other_base)
    base = values.get("base")
    is_class = inspect.isclass(base)
    settings = {s: getattr(hyper, s) for s in BASE_SETTINGS if s not in assignment.values()}
    if inspect.isclass(base) and (names := _names_of_settings(base)):
        settings = {n: settings[s] for n, s in names.items() if s in settings}
    return called(make, assignment, values, more=settings if more and is_class else None)


def _base(make: Any, parameter: inspect.Parameter, hyper: Hyper, weights: Any, other: bool) -> Any:
    """A base optimizer, or where the name asks for it its class; ``other``: the other of the two.

    One that is made with the weights is given them.
    """
    made = _own_base(make, parameter)
    as_class = (
        parameter.name.lower().split("_")[-1] in CLASSES
        or "type[" in str(parameter.annotation).lower()
        or (inspect.isclass(parameter.default) and not is_required(parameter))
    )
    if as_class != other:
        return made
    assignment, _ = maker_assignment(made, BASE_SETTINGS)
    values: dict[str, Any] = {**vars(hyper), "weights": weights}
    kept = {n: role for n, role in assignment.items() if role in (*BASE_SETTINGS, "weights")}
    return made(**{n: values[role] for n, role in kept.items()})


def _base_class(make: Any, assignment: Assignment) -> Any:
    """The class of the base optimizer that a maker is given."""
    name = next(n for n, role in assignment.items() if role == "base")
    return _own_base(make, parameters_of(make)[name])


def _own_base(make: Any, parameter: inspect.Parameter) -> Any:
    """SGD as the file has it, else this project's. What an annotation or a default names is it."""
    default = parameter.default
    if inspect.isclass(default) and not is_required(parameter):
        return default
    plain = make.func if isinstance(make, functools.partial) else make
    of = inspect.getmro(plain)[:-1] if inspect.isclass(plain) else (plain,)
    names = [v for part in of for v in names_of(part).values()]
    own = [v for v in names if inspect.isclass(v) and v not in of]
    own = [v for v in dict.fromkeys(own) if v.__module__.split(".")[0] not in FRAMEWORKS]
    own = [v for v in own if _is_base(v)]
    told = parameter.annotation
    text = told if isinstance(told, str) else f"{getattr(told, '__name__', '')} {told}"
    words = re.findall(r"\w+", text)
    named = [v for v in own if v.__name__ in words]
    own = [v for v in own if not _takes_function(v) and "sam" not in v.__name__.lower()]
    usual = [
        v for v in own if any(word in v.__name__.lower().replace("_", "") for word in BASE_WORDS)
    ]
    here = getattr(plain, "__module__", "")
    usual.sort(key=lambda v: v.__module__ != here)
    only = [v for v in own if v.__module__ == here and "momentum" in _base_settings(v)]
    return next(iter([*named, *usual, *(only if len(only) == 1 else [])]), SGD)


def _is_base(made: type) -> bool:
    """Whether a class can be made with a learning rate, and makes no ascent."""
    assignment, unknown = maker_assignment(made, SETTINGS)
    roles = set(assignment.values())
    return not unknown and "lr" in roles and not roles & {"rho", "base", "gradient"}


def _takes_function(made: type) -> bool:
    """Whether its step is given a function of the loss, and not a gradient."""
    name = step_method(made)
    taken = parameters_of(getattr(made, name)) if name else {}
    return bool(name) and not any(is_called(n, ARRAYS) for n in taken)


def _names_of_settings(base: type) -> dict[str, str]:
    """The settings that a base optimizer takes, by its own names for them."""
    taken = parameters_of(base)
    return {n: s for n in taken if (s := setting_of(n)) in BASE_SETTINGS}


def _base_settings(base: type) -> set[str]:
    return set(_names_of_settings(base).values())
