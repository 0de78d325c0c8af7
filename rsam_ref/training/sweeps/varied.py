"""What is varied, as it is typed: NAME=VALUE,VALUE or NAME=LOW:HIGH, for one METHOD: or for all."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from typing import Any, get_args

from rsam_backends import Stream
from rsam_ref.loading import did_you_mean
from rsam_ref.training.recipe import Recipe
from rsam_ref.training.summary import ASIDE

TABLES = ("model_options", "optimizer_options")
METHODS: tuple[str, ...] = get_args(Recipe.model_fields["optimizer"].annotation)
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"({NUMBER}):({NUMBER})(:log)?")
DIGITS = 3
"""Of a number that is drawn, so that it can be typed."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, drawn evenly, or in ``log`` evenly in ratio."""

    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, stream: Stream) -> float:
        """A number of the range, to three digits; a whole one where the setting is."""
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        at = low + (high - low) * float(stream.uniform(1, 0.0, 1.0, "float64")[0])
        value = math.exp(at) if self.log else at
        if self.whole:
            return min(max(round(value), round(self.low)), round(self.high))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Varied:
    """A setting, ``rho`` or ``model_options.width``, and what it takes: values, or a range.

    ``method`` is the only one that it is varied for; None for all.
    """

    name: str
    method: str | None
    values: tuple[Any, ...] = ()
    range: Range | None = None

    @property
    def typed(self) -> str:
        """As it is typed before the equals sign."""
        return f"{self.method}:{self.name}" if self.method else self.name

    def draw(self, stream: Stream) -> Any:
        """One of the values, or a number of the range."""
        if self.range is not None:
            return self.range.draw(stream)
        return self.values[int(stream.integers(0, len(self.values), 1)[0])]


def read(texts: list[str]) -> list[Varied]:
    """What each text varies. Raises ValueError for one that cannot be read, or is there twice."""
    found: dict[str, Varied] = {}
    for text in texts:
        one = _read(text)
        if one.typed in found:
            raise ValueError(
                f"--set {one.typed} is given twice: put all its values into one, as in "
                f"{one.typed}=VALUE,VALUE"
            )
        found[one.typed] = one
    return list(found.values())


def _read(text: str) -> Varied:
    typed, equals, right = text.partition("=")
    method, colon, name = typed.strip().rpartition(":")
    if not equals or not name or not right.strip():
        raise ValueError(f"--set {text}: write it as NAME=VALUE,VALUE or NAME=LOW:HIGH")
    if colon and method not in METHODS:
        raise ValueError(
            f"--set {text}: there is no method {method!r}{did_you_mean(method, METHODS)}"
        )
    _check_name(name, text, bool(colon))
    scope = method or None
    if (ends := RANGE.fullmatch(right.strip())) is not None:
        return Varied(name, scope, range=_range(name, text, *ends.groups()))
    values = _values(name, right)
    if name in ASIDE and len(values) > 1:
        raise ValueError(f"--set {text}: {name} decides no number, so there is nothing to compare")
    return Varied(name, scope, values)


def _check_name(name: str, text: str, scoped: bool) -> None:
    table, dot, option = name.partition(".")
    if dot and (table not in TABLES or not option):
        raise ValueError(
            f"--set {text}: only {' and '.join(TABLES)} have parts, as in model_options.width=8,16"
        )
    if name == "seed":
        raise ValueError(f"--set {text}: seeds are asked for by their number: --seeds 5")
    if name == "validation":
        raise ValueError(f"--set {text}: what is held out is the same for all runs: --validation")
    if name == "optimizer" and scoped:
        raise ValueError(f"--set {text}: the methods are named once: --set optimizer=sgd,sam")
    if table not in Recipe.model_fields:
        near = did_you_mean(table, Recipe.model_fields)
        raise ValueError(
            f"--set {text}: unknown setting {table}{near}; there are "
            f"{', '.join(Recipe.model_fields)}; an option of the model is model_options.{table}"
        )


def _range(name: str, text: str, left: str, right: str, log: str | None) -> Range:
    low, high = float(left), float(right)
    if not low < high < math.inf:
        raise ValueError(f"--set {text}: a range goes from the lower to the higher number")
    if log and low <= 0:
        raise ValueError(f"--set {text}: a range in ratios begins above 0")
    is_whole = left.isdecimal() and right.isdecimal()  # of an option of a model or a method
    if (field := Recipe.model_fields.get(name)) is not None:
        kinds = (field.annotation, *get_args(field.annotation))
        plain = [getattr(kind, "__origin__", kind) for kind in kinds]
        if int not in plain and float not in plain:
            raise ValueError(f"--set {text}: {name} is no number, so it has no range")
        is_whole = int in plain
    return Range(low, high, bool(log), is_whole)


def _values(name: str, text: str) -> tuple[Any, ...]:
    """The values between commas: TOML, words without their quotes, or none where that is one."""
    try:
        return tuple(tomllib.loads(f"values = [{text}]")["values"])
    except tomllib.TOMLDecodeError:
        parts = [part.strip() for part in text.split(",")]
    field = Recipe.model_fields.get(name)
    may_lack = field is not None and field.default is None
    return tuple(None if may_lack and part == "none" else _value(part) for part in parts)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
