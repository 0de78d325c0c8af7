"""What a relative of SAM is, for those who run it, tell of it and recognise it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from rsam_ref.algorithms.sam import Trace, Vector

State = Mapping[str, Any]
"""What a rule keeps from one step to the next: vectors (P,) by name; {} before the first."""


@dataclass(frozen=True)
class Setting:
    """A setting of a rule: its default, what it is, and where it may lie."""

    default: float
    told: str
    low: float = 0.0
    high: float = math.inf
    above: bool = False
    """Whether it must be larger than ``low``; it may be ``low`` if not."""
    below: bool = False
    """Whether it must be smaller than ``high``; it may be ``high`` if not."""

    def check(self, name: str, value: Any) -> None:
        """Raise TypeError for what is no number, ValueError for one that it may not be."""
        kind, called = (Integral, "a whole number") if self.whole else (Real, "a number")
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{name} must be {called}, not {value!r}")
        number = float(value)
        low_enough = self.low < number if self.above else self.low <= number
        high_enough = number < self.high if self.below else number <= self.high
        if not (low_enough and high_enough and math.isfinite(number)):
            least = f"{'>' if self.above else '>='} {self.low:g}"
            most = f"{'<' if self.below else '<='} {self.high:g}"
            range_ = f"{least} and {most}" if self.high < math.inf else f"finite and {least}"
            raise ValueError(f"{name} is {self.told}; it must be {range_}, not {value}")

    @property
    def whole(self) -> bool:
        """Whether it is a whole number, which no schedule changes."""
        return isinstance(self.default, int)


RHO = "the radius, in units of the weights"


@dataclass(frozen=True, slots=True)
class ApartTrace(Trace):
    """A step of which a part goes past the base optimizer."""

    apart: Vector = None
    """Moves the weights by -lr times itself, beside the base step: no momentum, no decay."""


@dataclass(frozen=True)
class Relative:
    """An algorithm with SAM's outer form, and what there is to know about it.

    The rule is called as ``rule(loss_and_grad, w, **needs, **settings)`` and gives a `Trace`; one
    that needs ``state`` gives the trace and the next state.
    """

    name: str
    title: str
    rule: Callable[..., Any]
    update: str
    """The step in one line."""
    gradients: str
    """How many a step."""
    source: str
    """Authors, title, venue and year."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """All settings, rho first where there is one."""
    apart: bool = False
    """Whether it gives an `ApartTrace`, so that its base must have a learning rate."""
    needs: tuple[str, ...] = ()
    """What the rule is given besides, by the names of `Related`'s methods: state, noise, ..."""
    keeps: str = "nothing"
    """What a checkpoint holds besides the base optimizer's state."""
    is_sam: str = ""
    """The settings with which it is SAM."""
    against_rsam: str = ""
    """How it differs from R-SAM, in one line."""
    packages: str = ""
    """Who has it under this name, and whether they compute it."""
