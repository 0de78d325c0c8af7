"""What stands in the groups of an optimizer: rho and its like, numbers or functions of the step.

In a group stands a Python number always: that of the step to come, where a function was given.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from rsam_ref.algorithms.schedules import Schedule

Group = dict[str, Any]

NUMBERS = ("rho", "sigma", "lam", "eta")
"""The settings that are numbers, and may be functions of the step."""

NAMES = (*NUMBERS, "adaptive", "output_axis")

WHOLE = ("max_grad_norm", "seed", "draw")
"""What is set for all groups together."""


class Settings:
    """The settings of one optimizer: what a group has that has none, and who sets it."""

    def __init__(self, defaults: Mapping[str, Any], who: str) -> None:
        self.defaults = dict(defaults)
        self._who = who
        self._schedules: list[dict[str, Schedule]] = []
        self._values: list[dict[str, float]] = []  # what the schedules have set

    def check_names(self, group: Group, of_base: Mapping[str, Any]) -> None:
        """Raise ValueError where a group has what is no setting of a group, or one misspelt.

        What has another name is the user's own, as in torch: names of layers, factors of rates.
        """
        for name in group:
            known = name in self.defaults or name in of_base
            if not known and (name.lower() in (*NAMES, *WHOLE) or _almost(name)):
                raise ValueError(
                    f"a group has {name!r}, which is no setting of {self._who} for a group: "
                    f"those are {', '.join(self.defaults)}"
                )

    @property
    def groups(self) -> int:
        """How many groups are complete."""
        return len(self._schedules)

    def complete(self, group: Group, place: int, step: int) -> None:
        """Give a group the settings that it does not have; ``place``: of the group in its list."""
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        if place == len(self._schedules):
            given = {name: group[name] for name in self.defaults if name in NUMBERS}
            self._schedules.append({k: v for k, v in given.items() if callable(v)})
            self._values.append({})
        self._set(group, place, step)

    def forget(self, place: int) -> None:
        """The group at this place, the last one, is gone."""
        del self._schedules[place:], self._values[place:]

    def move(self, group: Group, place: int, step: int) -> None:
        """The values for a step. Raises ValueError where another hand set what a function sets."""
        for name, value in self._values[place].items():
            if group[name] != value:
                raise ValueError(
                    f"{name} of group {place} is a function of the step, so it cannot be set to "
                    f"{group[name]!r} as well; make {self._who} with a number to set it yourself"
                )
        self._set(group, place, step)

    def _set(self, group: Group, place: int, step: int) -> None:
        schedules = self._schedules[place]
        self._values[place] = {
            name: number(name, s(step), "a number at every step") for name, s in schedules.items()
        }
        group.update(self._values[place])
        group.update({name: _plain(name, group[name]) for name in self.defaults})


def number(name: str, value: Any, kind: str = "a number or a function of the step") -> float:
    """The value as a Python number; a TypeError in one line if it is none."""
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} is {kind}, not {value!r}") from None


def _plain(name: str, value: Any) -> Any:
    """A setting as Python has it, which every way of loading a state takes."""
    if callable(value) and name in NUMBERS:
        raise TypeError(
            f"{name} of a group is a number once the optimizer is made: a function of the step is "
            "given when it is made, or to add_param_group"
        )
    if name in NUMBERS:
        return number(name, value)
    if name == "output_axis":
        if not hasattr(value, "__index__"):
            raise TypeError(f"output_axis is a whole number, not {value!r}")
        return operator.index(value)
    if isinstance(value, str) or callable(value):
        raise TypeError(f"{name} is True or False, not {value!r}")
    return bool(value)


def _almost(name: str) -> bool:
    """Whether a name is one of the settings', but for one letter: added, missing, wrong, swapped.

    Not the first one: ``beta`` is a name of one's own.
    """
    near = (other for other in NAMES if other[0] == name[:1].lower())
    return name not in NAMES and any(_one_slip(name.lower(), other) for other in near)


def _one_slip(a: str, b: str) -> bool:
    """Whether two words differ by one letter, or by two neighbours that are swapped."""
    if len(a) > len(b):
        a, b = b, a
    start = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), len(a))
    if len(a) < len(b):
        return a[start:] == b[start + 1 :]
    swapped = a[start : start + 2] == b[start : start + 2][::-1]
    return a[start + 1 :] == b[start + 1 :] or (swapped and a[start + 2 :] == b[start + 2 :])
