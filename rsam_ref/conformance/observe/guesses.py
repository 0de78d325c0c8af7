"""Guesses: what is given for a number that must be given and whose name tells nothing.

A verdict may depend on one. So a guess is told, and other values are tried: what is found with
every one of them is the implementation's own doing.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping

from rsam_ref.conformance.observe.problem import Hyper

FRACTION = 0.1
COUNT = 100
"""For a parameter that is said to be a whole number: of steps, of samples."""

OTHERS = {FRACTION: (1.0, 0.5), COUNT: (10, 1)}
"""What is tried besides."""

TIMES = (0.5, 0.25)
"""By what another algorithm's setting is multiplied to see whether the verdict depends on it."""


def guess_of(
    parameter: inspect.Parameter, setting: str | None, hyper: Hyper, settings: Collection[str]
) -> float:
    """A value for a required parameter: a number of no known meaning, or a setting that the
    algorithm asked for does not have.

    ``settings`` are all that the constructor takes. Without a sigma, what is called lam is no
    R-SAM's: 1 leaves out least of what it weighs.
    """
    if setting == "lam" and "sigma" not in settings:
        return 1.0
    if setting is not None:
        return float(getattr(hyper, setting))
    return COUNT if _is_whole(parameter) else FRACTION


def other_guesses(guesses: Mapping[str, float]) -> Iterator[dict[str, float]]:
    """All guesses together at other values."""
    for i in range(len(TIMES)):
        yield {
            name: OTHERS[value][i] if value in OTHERS else TIMES[i] * value
            for name, value in guesses.items()
        }


def in_words(guesses: Mapping[str, float]) -> str:
    return " and ".join(f"{name} = {value:g}" for name, value in guesses.items())


def _is_whole(parameter: inspect.Parameter) -> bool:
    told = parameter.annotation
    return (told if isinstance(told, str) else getattr(told, "__name__", "")) == "int"
