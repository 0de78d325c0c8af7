"""Pickles of plain data, read without unpickling: nothing can be built but what is named here.

Python's own reader calls whatever a pickle names. This one goes through the opcodes as
`pickletools` lists them, knows those that make numbers, strings, lists, tuples and dicts, and of
all names the few by which NumPy writes an array; whatever else a pickle asks for ends the reading
before anything was called. A named function is never run: its arguments are noted down, and an
array is made of them once they have been checked.

Imports the errors alone. Imported by `cifar`.
"""

from __future__ import annotations

import math
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from rsam_backends.base import kind_of
from rsam_ref.data.errors import DataError

_ARRAY_NAMES = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("_codecs", "encode"): "encode",  # by which protocol 2 writes bytes
    ("__builtin__", "bytes"): "no bytes",  # and this without arguments, where there are none
}
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT",
    "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DTYPES = {"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "b1"}
_MARK = object()


class _Name:
    """One of the names above: what a pickle would call."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Call:
    """A call that a pickle asks for, noted down: what, with which arguments, and its state."""

    __slots__ = ("arguments", "kind", "state")

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.kind, self.arguments, self.state = kind, arguments, None


class _RefusedError(ValueError):
    """Why a pickle is not read."""


def read_pickle(path: Path, contents: bytes) -> Any:
    """What a pickle holds: numbers, strings, lists, tuples, dicts, arrays. Strings of Python 2 too.

    Raises DataError, before anything that it names is called, for a pickle that holds anything
    else, and for one that is damaged.
    """
    try:
        return _plain(_run(contents), {})
    except _RefusedError as refused:
        raise DataError(
            path, f"{refused}: it is a pickle that holds more than plain arrays, and is not read"
        ) from None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            path, f"is a damaged pickle ({error or type(error).__name__}); fetch it again"
        ) from None


def _run(contents: bytes) -> Any:
    """Go through the opcodes with a stack and a memo, as a pickle is meant to be read."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(contents):
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[name]())
        elif name == "LIST":
            stack.append(_since_mark(stack))
        elif name == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
            _top(stack, list).extend(items)
        elif name in ("DICT", "SETITEM", "SETITEMS"):
            pairs = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _since_mark(stack)
            if name == "DICT":
                stack.append({})
            _top(stack, dict).update(zip(pairs[::2], pairs[1::2]))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            asked = argument.split(" ", 1) if name == "GLOBAL" else [stack.pop(-2), stack.pop()]
            stack.append(_named(asked))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            if not isinstance(function, _Name) or not isinstance(arguments, tuple):
                raise _RefusedError("it calls what is no function")
            stack.append(_Call(function.kind, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _top(stack, _Call).state = state
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise _RefusedError(f"it asks for {name}")
    raise ValueError("it has no end")


def _named(asked: list[Any]) -> _Name:
    """A name that NumPy's arrays are written by; any other is refused here, uncalled."""
    module, name = asked
    if (module, name) not in _ARRAY_NAMES:
        raise _RefusedError(f"it asks for {module}.{name}")
    return _Name(_ARRAY_NAMES[module, name])


def _since_mark(stack: list[Any]) -> list[Any]:
    """What was put on the stack since the last mark, taken off with it."""
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1  # IndexError where there is none
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _top(stack: list[Any], kind: type) -> Any:
    if not isinstance(stack[-1], kind):
        raise _RefusedError(f"it fills {kind_of(stack[-1])} like a {kind.__name__.strip('_')}")
    return stack[-1]


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """The value with its calls made: arrays and bytes. ``done`` are those made before, by id."""
    if id(value) not in done:
        if isinstance(value, dict):
            made: Any = {_plain(key, done): _plain(item, done) for key, item in value.items()}
        elif isinstance(value, list | tuple):
            made = type(value)([_plain(item, done) for item in value])
        elif isinstance(value, _Name):
            raise _RefusedError(f"it holds the function {value.kind}")
        else:
            made = _made(value) if isinstance(value, _Call) else value
        done[id(value)] = made
    return done[id(value)]


def _made(call: _Call) -> np.ndarray | bytes:
    if call.kind == "no bytes" and not call.arguments:
        return b""
    if call.kind == "encode":
        text, code = call.arguments
        if not isinstance(text, str) or code != "latin1":
            raise _RefusedError("it encodes what is no text")
        return text.encode("latin1")
    if call.kind == "frombuffer":
        raw, dtype, shape, order = call.arguments
        return _array(raw, dtype, shape, order == "F")
    if call.kind == "reconstruct" and isinstance(call.state, tuple):
        _, shape, dtype, by_columns, raw = call.state
        return _array(raw, dtype, shape, by_columns is True)
    raise _RefusedError(f"it holds a {call.kind} without an array")


def _array(raw: Any, dtype: Any, shape: Any, by_columns: bool) -> np.ndarray:
    """An array of numbers from its bytes, when they, its type and its shape fit together."""
    kind = _dtype(dtype)
    if isinstance(raw, _Call):
        raw = _made(raw)
    if isinstance(raw, str):  # of Python 2
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray):
        raise _RefusedError("it holds an array of objects")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array of shape {shape}")
    if len(raw) != kind.itemsize * math.prod(shape):
        raise ValueError(f"{len(raw)} bytes for an array of shape {shape} ({kind})")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if by_columns else "C")


def _dtype(call: Any) -> np.dtype:
    if not isinstance(call, _Call) or call.kind != "dtype" or call.arguments[0] not in _DTYPES:
        raise _RefusedError("it holds an array of no plain numbers")
    byte_order = call.state[1] if isinstance(call.state, tuple) else "|"
    return np.dtype(call.arguments[0]).newbyteorder({">": ">", "<": "<"}.get(byte_order, "="))
