"""Where an optimizer keeps its settings: parameter groups, attributes, properties, a config.

A place is found on one optimizer and used on others of its make, so it is told by names alone.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from rsam_ref.conformance.observe.names import setting_of

IN_GROUPS = "param_groups"
DEPTH = 2
"""How deep in configs a setting is looked for."""

NO_SETTINGS = ("_step_count", "steps", "step_count", "_steps", "global_step", "step_num")
"""Numbers that count."""


@dataclass(frozen=True)
class Place:
    """The way from an optimizer to a number; ``path[0]`` is `IN_GROUPS` for one in every group."""

    path: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def in_groups(self) -> bool:
        return self.path[0] == IN_GROUPS

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True)
class Found:
    """What was found of an optimizer by trying."""

    places: dict[str, tuple[Place, ...]] | None = None
    """Where each setting can be changed between steps; None: nothing was tried yet."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Parameters of its constructor, and the setting that each was found to be."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Values for parameters whose names tell nothing."""


def places(optimizer: Any, groups: list[dict[str, Any]]) -> Iterator[tuple[Place, float]]:
    """All numbers that look like settings, with the values that they have."""
    for name, value in (groups[0] if groups else {}).items():
        if _is_number(value):
            yield Place((IN_GROUPS, name)), float(value)
    yield from _within(optimizer, (), DEPTH)


def _within(owner: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[Place, float]]:
    for name in _names(owner):
        if name in NO_SETTINGS or (not path and name in ("defaults", "state", IN_GROUPS)):
            continue
        try:
            value = owner[name] if isinstance(owner, MutableMapping) else getattr(owner, name)
        except Exception:  # a property that raises has nothing to set
            continue
        if _is_number(value):
            yield Place((*path, name)), float(value)
        elif depth > 1 and is_config(value):
            yield from _within(value, (*path, name), depth - 1)


def _names(owner: Any) -> list[str]:
    """Its attributes, slots, and properties that go by the name of a setting."""
    if isinstance(owner, MutableMapping):
        return [name for name in owner if isinstance(name, str)]
    found = list(getattr(owner, "__dict__", {}))
    for parent in type(owner).__mro__:
        slots = vars(parent).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else list(slots)
        found += [n for n, v in vars(parent).items() if isinstance(v, property) and setting_of(n)]
    return list(dict.fromkeys(name for name in found if not name.startswith("__")))


def is_config(value: Any) -> bool:
    """Whether a value is an object or a mapping that may hold settings."""
    if isinstance(value, type):
        return False
    if isinstance(value, MutableMapping):
        return 0 < len(value) < 40 and all(isinstance(name, str) for name in value)
    plain = dataclasses.is_dataclass(value) or isinstance(value, types.SimpleNamespace)
    module = type(value).__module__ or ""
    return plain or (
        hasattr(value, "__dict__")
        and not callable(value)
        and module.split(".")[0] not in ("torch", "builtins", "numpy", "collections")
        and not module.startswith("rsam_ref.conformance")
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return True
    return type(value).__name__ == "Tensor" and value.ndim == 0 and value.is_floating_point()


def write(optimizer: Any, groups: list[dict[str, Any]], place: Place, value: float) -> bool:
    """Set the number there. False where that cannot be done: there is no setter, it is frozen."""
    if place.in_groups:
        holders = [group for group in groups if place.name in group]
        for group in holders:
            _put(group, place.name, value)
        return bool(holders)
    owner = optimizer
    try:
        for name in place.path[:-1]:
            owner = owner[name] if isinstance(owner, MutableMapping) else getattr(owner, name)
        _put(owner, place.name, value)
    except Exception:
        return False
    return True


def _put(owner: Any, name: str, value: float) -> None:
    old = owner[name] if isinstance(owner, MutableMapping) else getattr(owner, name)
    if type(old).__name__ == "Tensor":
        old.data.fill_(value)
    elif isinstance(owner, MutableMapping):
        owner[name] = value
    else:
        setattr(owner, name, value)
