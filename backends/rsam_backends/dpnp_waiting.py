"""Waits for a SYCL device, made visible: reading a value of an array, and masks as indices.

SYCL forbids nothing. So the ways by which values come to the host are watched: at dpnp's array
class, and at its functions that count. What waits inside of compiled functions cannot be seen.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

READS = (
    *("asnumpy", "item", "tolist", "tobytes", "nonzero", "__contains__"),
    *("__bool__", "__int__", "__float__", "__complex__", "__index__"),
    *("__repr__", "__str__", "__format__"),
)
INDEXED = ("__getitem__", "__setitem__")
FUNCTIONS = ("nonzero", "flatnonzero", "argwhere", "unique", "bincount", "extract", "asnumpy")


class WaitingError(RuntimeError):
    """Inside of `forbid_waiting`: something would have made the host wait for the device."""


class _Forbidden(threading.local):
    now = False


_forbidden = _Forbidden()


@contextmanager
def waiting_forbidden(array_class: Any) -> Iterator[None]:
    """A block in which this thread's reads of values are a `WaitingError`."""
    _watch(array_class)
    before, _forbidden.now = _forbidden.now, True
    try:
        yield
    finally:
        _forbidden.now = before


@functools.cache  # once: until somebody asks, dpnp's class stays as it is
def _watch(array_class: Any) -> None:
    for name in READS:
        setattr(array_class, name, _refusing(getattr(array_class, name), lambda *_: True, name))
    for name in INDEXED:
        method = getattr(array_class, name)
        setattr(array_class, name, _refusing(method, _by_a_mask, "an index that is a mask"))


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """One of `FUNCTIONS`, which is a `WaitingError` where waiting is forbidden."""
    return _refusing(function, lambda *_: True, function.__name__)


def _refusing(function: Any, waits: Callable[..., bool], what: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*inputs: Any, **options: Any) -> Any:
        if _forbidden.now and waits(*inputs):
            raise WaitingError(f"{what} waits for the device")
        return function(*inputs, **options)

    return call


def _by_a_mask(_: Any, index: Any, *value: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(getattr(getattr(part, "dtype", None), "kind", "") == "b" for part in parts)
