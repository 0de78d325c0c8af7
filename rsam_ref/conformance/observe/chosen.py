"""What an implementation is asked for by its own arguments: Nesterov's momentum."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

from rsam_ref.conformance.observe.names import is_called

NESTEROV = ("nesterov", "use_nesterov")


def chooses_nesterov(subject: Any, made: Any = None) -> bool:
    """Whether Nesterov's momentum is a choice of a constructor or a function, and is chosen; or a
    function makes something (``made``) that has it in its groups or attributes.
    """
    if any(is_called(n, NESTEROV) and p.default is True for n, p in _parameters(subject)):
        return True
    if inspect.isclass(subject) or made is None:
        return False
    groups = getattr(made, "param_groups", None)
    holders = [getattr(made, "__dict__", {}), *(groups if isinstance(groups, list) else [])]
    return any(holder.get(name) is True for holder in holders for name in NESTEROV)


def _parameters(subject: Any) -> list[tuple[str, inspect.Parameter]]:
    """What it takes; a constructor that hands on what it is given takes what its parents' take."""
    makers = [subject]
    if inspect.isclass(subject):
        makers = [vars(c)["__init__"] for c in subject.__mro__ if "__init__" in vars(c)]
    found: list[tuple[str, inspect.Parameter]] = []
    for maker in makers:
        with suppress(TypeError, ValueError):
            taken = inspect.signature(maker).parameters
            found += taken.items()
            if all(p.kind is not p.VAR_KEYWORD for p in taken.values()):
                break
    return found
