"""Which framework a function or class is written in: by what its module names, and its parents."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

FRAMEWORKS = {
    "torch": "torch",
    "jax": "jax",
    "optax": "jax",
    "flax": "jax",
    "haiku": "jax",
    "equinox": "jax",
    "keras": "keras",
    "mlx": "mlx",
}
"""A package, and the framework that it belongs to."""


def framework_of(subject: Any) -> str | None:
    """ "torch", "jax", "keras" or "mlx"; None where nothing or more than one of them is named.

    Keras comes with a framework below it, so it is what a module that names both is written in.
    """
    plain = plain_of(subject)
    found = {FRAMEWORKS[root] for root in _named(plain) if root in FRAMEWORKS}
    if "keras" in found:
        return "keras"
    return found.pop() if len(found) == 1 else None


def is_numpy_alone(subject: Any) -> bool:
    """Whether its module names NumPy, and no framework."""
    roots = _named(plain_of(subject))
    return "numpy" in roots and not roots & set(FRAMEWORKS)


def plain_of(subject: Any) -> Any:
    """The function or class under partials, jit and other wrappers."""
    while True:
        subject = as_partial(subject)
        if isinstance(subject, functools.partial):
            subject = subject.func
        elif getattr(subject, "__wrapped__", None) is not None:
            subject = subject.__wrapped__
        else:
            return subject


def as_partial(subject: Any) -> Any:
    """What has the parts of a `functools.partial`, as Equinox's have, as one; others as they are.

    Equinox's signature tells nothing: it is ``*args, **kwargs``.
    """
    if inspect.isclass(subject) or isinstance(subject, functools.partial):
        return subject
    func, args, keywords = (getattr(subject, n, None) for n in ("func", "args", "keywords"))
    if callable(func) and isinstance(args, tuple) and isinstance(keywords, dict):
        return functools.partial(func, *args, **keywords)
    return subject


def names_of(subject: Any) -> dict[str, Any]:
    """What the module of a function or class holds, by name; for an object, that of its class."""
    plain = plain_of(subject)
    if isinstance(plain, types.MethodType):
        plain = plain.__func__
    if isinstance(plain, types.FunctionType):
        return plain.__globals__
    owner = plain if inspect.isclass(plain) else type(plain)
    module = inspect.getmodule(owner)
    own = next((v for v in vars(owner).values() if isinstance(v, types.FunctionType)), None)
    return own.__globals__ if own is not None else vars(module) if module else {}


def _named(plain: Any) -> set[str]:
    """The packages that its module has imported, or something of, and those of its parents."""
    roots = set()
    for value in names_of(plain).values():
        name = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
        if isinstance(name, str):
            roots.add(name.split(".")[0])
    if inspect.isclass(plain):
        roots |= {parent.__module__.split(".")[0] for parent in plain.__mro__}
    return roots
