"""What a function or a class keeps outside of what it is given and returns: its own attributes,
variables that it closes over, global ones of its file, defaults, attributes of classes.

A run that is made anew must find them as they were before the first one, else its first step goes
on with another run's velocity. So where that shows, every run has its own, put in place for each
step. It need not show at once: what is kept by id(p) is met by the run whose p has the same.
"""

from __future__ import annotations

import copy
import enum
import inspect
import types
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MISSING = object()
"""In the place of a value that is not there yet."""

LARGEST = 100_000
"""Arrays with more numbers are taken for data, which nobody copies."""

CONTAINERS = (dict, list, tuple, set, deque)
NUMBERS = (type(None), bool, int, float, complex, str, bytes)

Kept = list[Any]
"""A value for each slot."""


class Slot:
    """A place outside: how to read it, and how to write it."""

    def __init__(self, read: Callable[[], Any], put: Callable[[Any], None]) -> None:
        self.read, self.put = read, put


class Outside:
    """The places of a function, and what they held at first.

    Nothing is done to them until they are found to matter: others may read what is logged there.
    """

    def __init__(self, function: Any) -> None:
        self.slots = [slot for slot in _slots(function, set()) if _is_plain(slot.read())]
        self._first = [_copied(slot.read()) for slot in self.slots]
        self.matters = False

    @property
    def hold_ids(self) -> bool:
        """Whether something is kept there by an id, which an object of another run may have."""
        return any(_ids(slot.read()) > _ids(first) for slot, first in zip(self.slots, self._first))

    def found_to_matter(self) -> None:
        """One run may go on with what another has left: from now on every run has its own."""
        self.matters = True
        self._put(self.fresh())

    def fresh(self) -> Kept:
        """A copy of what was there at first."""
        return [_copied(value) for value in self._first]

    @contextmanager
    def holding(self, kept: Kept) -> Iterator[None]:
        """Inside, the places hold a run's own values; what they end as is put into ``kept``."""
        if not self.matters:
            yield
            return
        before = [slot.read() for slot in self.slots]
        self._put(kept)
        try:
            yield
        finally:
            kept[:] = [slot.read() for slot in self.slots]
            self._put(before)

    def _put(self, values: Kept) -> None:
        for slot, value in zip(self.slots, values):
            slot.put(value)


def _ids(value: Any) -> int:
    """How many numbers in containers, and among their keys, look like ids."""
    if isinstance(value, dict):
        return _ids(list(value)) + _ids(list(value.values()))
    if isinstance(value, CONTAINERS):
        return sum(_ids(v) for v in list(value))
    return int(type(value) is int and value > SMALLEST_ID)


SMALLEST_ID = 100_000
"""No step counts so far here."""


def _slots(function: Any, known: set[int]) -> Iterator[Slot]:
    """The places of a function or a class, and of those of its file that it uses."""
    for part in (getattr(function, "func", None), getattr(function, "__self__", None)):
        if part is not None and not isinstance(part, types.ModuleType):
            yield from _slots(part, known)
    if isinstance(function, types.FunctionType):
        function = inspect.unwrap(function)
    if id(function) in known:
        return
    known.add(id(function))
    if isinstance(function, type):
        yield from _slots_of_class(function, known)
        return
    if isinstance(getattr(function, "__dict__", None), dict):
        yield _attributes(function)
    if isinstance(function, types.FunctionType):
        yield from _slots_of_code(function, known)
    elif isinstance(called := vars(type(function)).get("__call__"), types.FunctionType):
        yield from _slots(called, known)


def _slots_of_class(made: type, known: set[int]) -> Iterator[Slot]:
    """Its attributes and those of its parents of that file, and the places of their methods."""
    for owner in made.__mro__:
        if owner.__module__ != made.__module__ or isinstance(owner, enum.EnumMeta):
            continue
        yield _data_of_class(owner)
        for value in list(vars(owner).values()):
            function = getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                yield from _slots(function, known)


def _slots_of_code(function: types.FunctionType, known: set[int]) -> Iterator[Slot]:
    """Defaults, variables that it closes over, and global ones that it names."""
    yield _attribute(function, "__defaults__")
    yield _attribute(function, "__kwdefaults__")
    inner: list[Any] = []
    for cell in function.__closure__ or ():
        yield _cell(cell)
        inner.append(_content(cell))
    for name in _names(function.__code__):
        yield _global(function.__globals__, name)
        inner.append(function.__globals__.get(name))
    for value in inner:
        if _is_of(value, function.__module__):
            yield from _slots(value, known)


def _is_of(value: Any, module: str | None) -> bool:
    """Whether this is a function or a class of that file, or an object of such a class."""
    if isinstance(value, types.FunctionType | type):
        return value.__module__ == module
    return type(value).__module__ == module


def _names(code: types.CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*(_names(c) for c in inner))


def _attributes(owner: Any) -> Slot:
    def put(values: dict[str, Any]) -> None:
        vars(owner).clear()
        vars(owner).update(values)

    return Slot(lambda: {**vars(owner)}, put)


def _data_of_class(owner: type) -> Slot:
    """The attributes of a class that are data."""

    def read() -> dict[str, Any]:
        items = list(vars(owner).items())
        return {n: v for n, v in items if not n.startswith("__") and _is_plain(v)}

    def put(values: dict[str, Any]) -> None:
        for name in read().keys() - values.keys():
            delattr(owner, name)
        for name, value in values.items():
            if vars(owner).get(name, MISSING) is not value:
                setattr(owner, name, value)

    return Slot(read, put)


def _attribute(owner: Any, name: str) -> Slot:
    return Slot(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _cell(cell: Any) -> Slot:
    def put(value: Any) -> None:
        if value is not MISSING:
            cell.cell_contents = value

    return Slot(lambda: _content(cell), put)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def _global(names: dict[str, Any], name: str) -> Slot:
    def put(value: Any) -> None:
        if value is MISSING:
            names.pop(name, None)
        else:
            names[name] = value

    return Slot(lambda: names.get(name, MISSING), put)


def _is_plain(value: Any) -> bool:
    """Whether this is data: numbers, arrays, and what may hold them. All else is left alone."""
    return value is MISSING or isinstance(value, (*NUMBERS, *CONTAINERS)) or _is_small_array(value)


def _is_small_array(value: Any) -> bool:
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple) or not hasattr(value, "dtype"):
        return False
    size = 1
    for n in shape:
        size *= n
    return size <= LARGEST


def _copied(value: Any) -> Any:
    """A copy of data, with everything else in it as it is."""
    if isinstance(value, dict):
        same = type(value) is dict
        items = {key: _copied(v) for key, v in value.items()}
        return items if same else _like(value, items)
    if isinstance(value, list | set | deque | tuple):
        if type(value) not in (list, set, deque, tuple):
            return value
        return type(value)(_copied(v) for v in value)
    if _is_small_array(value):
        try:
            return copy.deepcopy(value)
        except Exception:  # an array that belongs to a graph: nobody's velocity
            return value
    return value


def _like(value: dict[Any, Any], items: dict[Any, Any]) -> Any:
    """A dict of another class, such as a defaultdict."""
    other = copy.copy(value)
    other.update(items)
    return other
