"""The optimizer that a training step is written for, where that is a class beside it.

A step that calls ``optimizer.first_step()`` wants no SGD. So it is given an instance of the class
that it says in an annotation, or of those that its file has, made as a class is that is checked
alone. Which of them it runs with is found by trying.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rsam_ref.conformance.observe.arguments import Assignment, has_steps, parameters_of
from rsam_ref.conformance.observe.construct import construct
from rsam_ref.conformance.observe.frameworks import names_of
from rsam_ref.conformance.observe.made_inside import Kept, kept_in
from rsam_ref.conformance.observe.names import BASE_SETTINGS
from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.observe.problem import Hyper
from rsam_ref.conformance.observe.torch_base import TorchBase, find_base
from rsam_ref.conformance.observe.torch_forms import Net

ALGORITHMS = ("asam", "rsam", "sam")


@dataclass(frozen=True)
class OwnWay:
    """A way to call a training step, with an optimizer of a class of its file."""

    roles: tuple[tuple[str, str], ...]
    """Each parameter's role."""
    optimizer_class: type

    @property
    def assignment(self) -> Assignment:
        return dict(self.roles)


def own_ways(
    train_step: Callable[..., Any], assignments: list[Assignment], algorithm: str
) -> tuple[list[OwnWay], list[OwnWay]]:
    """The ways with a class of its own: of the annotation, and without one of the file."""
    told: list[OwnWay] = []
    found: list[OwnWay] = []
    for assignment in assignments:
        name = next((n for n, role in assignment.items() if role == "optimizer"), None)
        if name is None:
            continue
        roles = tuple(assignment.items())
        annotated = list(_annotated(train_step, name))
        told += [OwnWay(roles, made) for made in annotated]
        if not annotated:
            found += [OwnWay(roles, made) for made in _of_the_file(train_step, algorithm)]
    return told, found


def _annotated(train_step: Callable[..., Any], name: str) -> Iterator[type]:
    """The classes that the annotation of a parameter names, but for torch's own."""
    told = parameters_of(train_step)[name].annotation
    text = told if isinstance(told, str) else getattr(told, "__qualname__", str(told))
    words = set(re.findall(r"\w+", text))
    known = [told, *(v for n, v in names_of(train_step).items() if n in words)]
    yield from dict.fromkeys(value for value in known if _may_be_meant(value))


def _of_the_file(train_step: Callable[..., Any], algorithm: str) -> list[type]:
    """The classes of a step's file that may be optimizers, the one called like it first."""
    found = dict.fromkeys(v for v in names_of(train_step).values() if _may_be_meant(v))
    return sorted(found, key=lambda made: _likeness(made.__name__.lower(), algorithm))


def _likeness(name: str, algorithm: str) -> int:
    """How far a class's name is from an algorithm's."""
    says = next((known for known in ALGORITHMS if known in name), None)
    return 0 if name == algorithm else 1 if says == algorithm else 2 if says is None else 3


def _may_be_meant(value: Any) -> bool:
    return (
        inspect.isclass(value)
        and not (value.__module__ or "").startswith(("torch.", "builtins", "rsam_ref.conformance"))
        and not issubclass(value, torch.nn.Module | torch.Tensor | BaseException)
        and has_steps(value)
    )


@dataclass(frozen=True)
class OwnOptimizer:
    """One that was made for a training step."""

    optimizer: Any
    base: TorchBase | None
    not_passed: tuple[str, ...]
    kept: list[Kept]
    """Where its settings can be changed between steps."""


def made_of(
    made_by: type,
    net: Net,
    judged: list[Any],
    hyper: Hyper,
    asked: Collection[str],
    *,
    adaptive: bool,
) -> OwnOptimizer:
    made = construct(made_by, list(net.parameters()), hyper, net, adaptive=adaptive, asked=asked)
    if made.guesses:
        raise BrokenError(
            f"{made.by} needs {next(iter(made.guesses))!r}, which this check does not know; let "
            "the training step make it"
        )
    base = find_base(made.optimizer, judged)
    owners = [made.optimizer, *([base.optimizer] if base else [])]
    changed = [s for s in asked if s not in BASE_SETTINGS or s == "lr"]
    return OwnOptimizer(made.optimizer, base, made.not_passed, kept_in(owners, hyper, changed))


def hint_for(told: str, errors: Mapping[Any, BaseException]) -> str:
    """What to do where a step asks its optimizer for what SGD has not; "" for another error.

    ``errors`` are those of all ways.
    """
    lacks = re.search(r"AttributeError: 'SGD' object has no attribute '(\w+)'", told)
    if lacks is None:
        return ""
    for way, error in errors.items():
        if isinstance(way, OwnWay) and hasattr(way.optimizer_class, lacks[1]):
            return f"; given {way.optimizer_class.__name__} instead: {error}"
    return (
        f"; its optimizer was torch.optim.SGD, as no class of its file has {lacks[1]}: import the "
        "class there, annotate the parameter with it, or let the step make it"
    )
