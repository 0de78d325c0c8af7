"""What a run's sessions compute with, as far as the last bits of its numbers depend on it.

The same weights and batches give the same bits where all of this is the same. A product of matrices
that BLAS shares out among two threads has other last bits than by one, and training makes small
differences large. So a run keeps it for every session, and says where a later one differs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import rsam_ref
from rsam_backends import current_backend, deterministic
from rsam_backends.random import METHOD
from rsam_backends.switch import in_force
from rsam_backends.threads import threads
from rsam_ref.training.recipe import Recipe

ANY = {"threads"}
"""What is kept and decides no bit: the kernels' own threads."""


def as_asked(recipe: Recipe) -> AbstractContextManager[Any]:
    """The block in which a run computes: with ``deterministic`` numbers of threads decide no bit.

    Raises BackendError on a backend that cannot promise it.
    """
    return deterministic() if recipe.deterministic else nullcontext()


def told(recipe: Recipe) -> dict[str, Any]:
    """What is in force as a run computes: the backend's kernels, BLAS, draws, threads, ...

    Raises BackendError as `as_asked` does.
    """
    with as_asked(recipe):
        return {
            "rsam_ref": rsam_ref.__version__,
            "backend": current_backend().name,
            "kernels": in_force.kind,
            **current_backend().arithmetic(),
            "normal draws": METHOD,
            **current_backend().arithmetic_of(in_force.kind),
            "threads": threads(),
            "shards": recipe.shards,
            "deterministic": recipe.deterministic,
        }


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is other than it was, in words; [] where the bits are the same.

    Of another backend only what both have is told: its libraries' own settings compare to nothing.
    """
    old, new = flat(before), flat(now)
    names = dict.fromkeys([*new, *old])
    if old.get("backend") != new.get("backend"):
        names = {name: None for name in names if name in old and name in new}
    return [
        f"{name}: {old.get(name)}, now {new.get(name)}"
        for name in names
        if name not in ANY and old.get(name) != new.get(name)
    ]


def flat(told: dict[str, Any]) -> dict[str, Any]:
    """One level of names: what is told of BLAS as "BLAS version" and so on."""
    found: dict[str, Any] = {}
    for name, value in told.items():
        inner = value if isinstance(value, dict) else {"": value}
        found |= {f"{name} {key}".strip(): one for key, one in inner.items()}
    return found
