"""Where an object with a step on NumPy arrays keeps its settings: found by trying."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from rsam_ref.conformance.observe.names import setting_of
from rsam_ref.conformance.observe.places import Place, places, write
from rsam_ref.conformance.observe.problem import Hyper

CHANGE = 0.7
"""What a setting is multiplied by, to see where it is kept."""


def find_places(run: Callable[..., Any], setting: str, hyper: Hyper) -> tuple[Place, ...]:
    """Where an object keeps a setting: where a step follows what is written there, as it follows
    what its maker is given.

    ``run(hyper, places, written)`` makes one, writes, and takes steps: the object, and all that was
    seen, as arrays.
    """
    other = hyper.but(**{setting: CHANGE * getattr(hyper, setting)})
    states = random.getstate(), np.random.get_state()  # noqa: NPY002

    def again(*arguments: Any) -> Any:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        return run(*arguments)

    try:
        (one, seen), (two, wanted) = again(hyper, (), 0.0), again(other, (), 0.0)
        first, second = dict(_places(one)), dict(_places(two))
        kept = tuple(
            place
            for place, value in first.items()
            if value == getattr(hyper, setting) and second.get(place) == getattr(other, setting)
        )
        if not kept:
            return ()
        same = _alike(again(hyper, (), 0.0)[1], seen)
        follows = _alike(again(hyper, kept, getattr(other, setting))[1], wanted)
        named = tuple(place for place in kept if setting_of(place.name) == setting)
        return kept if follows else () if same else named
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def find_named_places(run: Callable[..., Any], setting: str, hyper: Hyper) -> tuple[Place, ...]:
    """The same of an object that was given ready-made: where something follows what is written."""
    one, seen = run(hyper, (), 0.0)
    named = tuple(p for p, _ in _places(one) if setting_of(p.name) == setting)
    if not named or not _alike(run(hyper, (), 0.0)[1], seen):
        return named
    return () if _alike(run(hyper, named, 0.37 * getattr(hyper, setting))[1], seen) else named


def _places(instance: Any) -> list[tuple[Place, float]]:
    return list(places(instance, []))


def write_all(instance: Any, kept: tuple[Place, ...], value: float) -> None:
    """Write a setting wherever it is kept."""
    for place in kept:
        write(instance, [], place, value)


def _alike(one: list[np.ndarray], two: list[np.ndarray]) -> bool:
    return len(one) == len(two) and all(np.array_equal(a, b) for a, b in zip(one, two))
