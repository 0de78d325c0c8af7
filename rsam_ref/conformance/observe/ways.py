"""In which ways the users of an optimizer call it.

A way is a list of calls: "backward" is a backward pass of the user's own, "closure" is
``step(closure)``, and every other word is a method. Halves have many names; which of the orders
that the names allow is the right one is found by trying (see trying.py).
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rsam_ref.conformance.observe.names import BASES

PAIRS = (("first_step", "second_step"), ("ascent_step", "descent_step"))
THIRDS = {PAIRS[0]: "third_step"}

DRAW = ("draw", "noise", "sample", "smooth", "random", "jitter", "gauss", "inject", "perturb")
ASCENT = [
    "first",
    "ascent",
    "ascend",
    "perturb",
    "climb",
    "maximi",
    "maximize",
    "virtual",
    "adversar",
    "adversarial",
    "attack",
    "disturb",
    "explore",
    "up",
    "forth",
    "away",
]
RESTORE = [
    "restore",
    "unperturb",
    "revert",
    "recover",
    "undo",
    "reset",
    "back",
    "return",
    "rollback",
    "unmove",
]
UPDATE = [
    "second",
    "descent",
    "descend",
    "update",
    "step",
    "minimize",
    "minimise",
    "final",
    "finish",
    "apply",
    "third",
]
NEVER = ("zero", "state", "load", "register", "set", "get", "norm", "grad", "profile")
"""What a method that is no half begins with."""

MOST_ORDERS = 24


@dataclass(frozen=True)
class Way:
    """A way to drive an optimizer."""

    name: str
    """ "two-step", "three-step", "closure", "backward-first" or "forward-closure"."""
    calls: tuple[str, ...]
    with_grad: bool = False
    """Whether the closure sees to it that gradients are on, whatever step has done."""

    def __str__(self) -> str:
        return ", ".join("step(closure)" if call == "closure" else call for call in self.calls)

    @property
    def words(self) -> str:
        """What it is called in a report."""
        if self.name in CLOSURES:
            return CLOSURES[self.name]
        methods = [call for call in self.calls if call != "backward"]
        return f"{', '.join(methods[:-1])} and {methods[-1]}"


CLOSURES = {
    "closure": "step(closure)",
    "backward-first": "backward, then step(closure)",
    "forward-closure": "step(closure), with a closure that makes no backward pass",
}
CLOSURE = Way("closure", ("closure",))
BACKWARD_FIRST = Way("backward-first", ("backward", "closure"))
FORWARD = Way("forward-closure", ("closure",))
BY_TURNS = Way("two-step", ("backward", "step", "backward", "step"))
"""A step() of nothing that climbs and descends by turns."""


def halves(optimizer: Any, rsam: bool) -> Iterator[Way]:
    """The halves by their usual names, and the draw before them where R-SAM is asked for.

    Where there is a third part, the two others alone are no step.
    """
    for pair in PAIRS:
        if not all(callable(getattr(optimizer, name, None)) for name in pair):
            continue
        third = THIRDS.get(pair, "")
        if callable(getattr(optimizer, third, None)):
            drawn = (pair[0], "backward", pair[1], "backward", third)
            yield Way("three-step", drawn)
            yield Way("three-step", ("backward", *drawn))
            return
        if rsam:
            for draw in _named(optimizer, DRAW, but=pair):
                yield Way("three-step", (draw, "backward", pair[0], "backward", pair[1]))
        yield Way("two-step", ("backward", pair[0], "backward", pair[1]))
        return


def orders(optimizer: Any, rsam: bool) -> Iterator[Way]:
    """The orders that methods under other names allow."""
    ups = _named(optimizer, ASCENT)
    backs = _named(optimizer, RESTORE)
    ends = [name for name in _named(optimizer, UPDATE) if name not in ups]
    if _can_end(optimizer):
        ends.append("step")
    ends += [
        f"{name}.step" for name in BASES if callable(getattr(_held(optimizer, name), "step", None))
    ]
    ends = list(dict.fromkeys(ends))
    found: list[tuple[str, ...]] = []
    if rsam:
        draws = _named(optimizer, DRAW)
        for draw, up, end in itertools.product(draws, ups, ends):
            if len({draw, up, end}) == 3:
                found.append((draw, "backward", up, "backward", end))
        for draw, up, back, end in itertools.product(draws, ups, backs, ends):
            if len({draw, up, back, end}) == 4:
                found.append((draw, "backward", up, "backward", back, end))
    for up, end in itertools.product(ups, ends):
        if up != end:
            found.append(("backward", up, "backward", end))
    for up, back, end in itertools.product(ups, backs, ends):
        if len({up, back, end}) == 3:
            found.append(("backward", up, "backward", back, end))
    for calls in found[:MOST_ORDERS]:
        yield Way("three-step" if calls[0] != "backward" else "two-step", calls)


def closures(optimizer: Any) -> list[Way]:
    """The ways with a closure, where it has a step(closure) of its own."""
    return [CLOSURE, FORWARD, BACKWARD_FIRST] if steps_by_closure(optimizer) else []


def steps_by_closure(optimizer: Any) -> bool:
    """Whether it has a step(closure) of its own: not the one that comes from torch."""
    step = getattr(type(optimizer), "step", None) or getattr(optimizer, "step", None)
    if step is None or (getattr(step, "__module__", "") or "").startswith("torch."):
        return False
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    return any(p.kind not in named for p in inspect.signature(optimizer.step).parameters.values())


def by_turns(optimizer: Any) -> list[Way]:
    """The way of a step() that takes nothing, where it has one."""
    step = getattr(optimizer, "step", None)
    return [BY_TURNS] if callable(step) and not inspect.signature(step).parameters else []


def method(optimizer: Any, name: str) -> Any:
    """The method of a call: of the optimizer, or of the base that it holds."""
    owner = optimizer
    for part in name.split("."):
        owner = getattr(owner, part)
    return owner


def _held(optimizer: Any, name: str) -> Any:
    return getattr(optimizer, "__dict__", {}).get(name)


def _can_end(optimizer: Any) -> bool:
    """Whether step() can be called alone."""
    step = getattr(optimizer, "step", None)
    return callable(step) and _needs_nothing(step)


def _named(optimizer: Any, words: Any, but: Any = ()) -> list[str]:
    """The methods of its own that can be called alone, and that one of these words begins."""
    own: dict[str, Any] = {}
    for parent in type(optimizer).__mro__:
        if parent is object or (parent.__module__ or "").startswith("torch."):
            continue
        for name, value in vars(parent).items():
            if inspect.isfunction(value) and not name.startswith("__"):
                own.setdefault(name, value)
    found = []
    for name in own:
        parts = name.strip("_").lower().split("_")
        if (
            name in (*but, "add_param_group")
            or parts[0] in NEVER
            or not any(_begins(p, words) for p in parts)
        ):
            continue
        if name.startswith("_") or not _needs_nothing(getattr(optimizer, name)):
            continue
        found.append(name)
    return sorted(found, key=lambda name: _place(name, words))


def _begins(part: str, words: Any) -> bool:
    return any(part == word or (len(word) > 3 and part.startswith(word)) for word in words)


def _place(name: str, words: Any) -> int:
    parts = name.lower().split("_")
    return min(i for i, word in enumerate(words) if any(_begins(p, (word,)) for p in parts))


def _needs_nothing(function: Any) -> bool:
    try:
        taken = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not p.empty or p.kind in kinds for p in taken)
