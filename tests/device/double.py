"""A stand-in for a GPU: arrays that offer only what CuPy offers, and count what crosses the bus.

A `DeviceArray` holds a NumPy array where nobody can see it. It has CuPy's members, functions and
keywords and no others (cupy_surface.json, read off CuPy itself), refuses what CuPy refuses
(implicit conversion, mixing with host arrays), and counts uploads, downloads, waits and kernels. In
strict mode what makes the host wait is an error. Two things it refuses beyond CuPy, as dpnp does,
which is real as well: a dtype given by its place, and an index of arrays around a slice.

What it cannot see: asynchrony, the order of atomics, rounding of a GPU, running out of memory. The
tests marked `gpu` run the same lists on real CuPy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.special import erf

from rsam_backends.base import Backend

SURFACE = json.loads(Path(__file__).with_name("cupy_surface.json").read_text())


class HiddenSyncError(RuntimeError):
    """In strict mode: something made the host wait for the device."""


@dataclass
class Counts:
    uploads: int = 0
    downloads: int = 0
    waits: int = 0
    kernels: int = 0
    strict: bool = False

    def wait(self, what: str) -> None:
        if self.strict:
            raise HiddenSyncError(f"{what} waits for the device")
        self.waits += 1

    def reset(self) -> None:
        self.uploads = self.downloads = self.waits = self.kernels = 0


COUNTS = Counts()


def _host(value: Any, what: str) -> Any:
    """The hidden array of an argument; host arrays are refused, as CuPy refuses them."""
    if isinstance(value, DeviceArray):
        return value._hidden
    if isinstance(value, np.ndarray):
        raise TypeError(f"{what}: unsupported type {type(value)} (a host array)")
    if isinstance(value, (list, tuple)):
        return type(value)(_host(v, what) for v in value)
    return value


def _device(value: Any) -> Any:
    """Results live on the device: scalars become 0-d arrays."""
    if isinstance(value, (np.ndarray, np.generic)):
        return DeviceArray(np.asarray(value))
    if isinstance(value, (list, tuple)):
        return type(value)(_device(v) for v in value)
    return value


def _index(index: Any) -> Any:
    """An index as NumPy takes it; host arrays are copied to the device silently, masks wait."""
    if isinstance(index, tuple):
        return tuple(_index(part) for part in index)
    if isinstance(index, DeviceArray):
        if index._hidden.dtype == bool:
            COUNTS.wait("a boolean mask")
        return index._hidden
    if isinstance(index, (np.ndarray, list)):
        COUNTS.uploads += 1
    return index


def _refuse_apart(index: Any) -> None:
    """No arrays, or numbers beside arrays, on both sides of a slice: `gather` is for these."""
    parts = index if isinstance(index, tuple) else (index,)
    whole = [i for i, part in enumerate(parts) if hasattr(part, "dtype") or isinstance(part, int)]
    arrays = any(hasattr(part, "dtype") for part in parts)
    if arrays and whole[-1] - whole[0] >= len(whole):
        raise IndexError("an index of arrays around a slice")


class DeviceArray:
    """An array on the pretended device."""

    __slots__ = ("_hidden",)
    __array_priority__ = 100

    def __init__(self, hidden: np.ndarray) -> None:
        self._hidden = hidden

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed; use to_host")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"ufunc method {method} of NumPy on a device array")
        return getattr(NAMESPACE, ufunc.__name__)(*inputs, **options)

    def __array_function__(self, function: Any, _: Any, inputs: Any, options: Any) -> Any:
        return getattr(NAMESPACE, function.__name__)(*inputs, **options)

    def __getattr__(self, name: str) -> Any:
        if name not in SURFACE["ndarray"]:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        value = getattr(self._hidden, name)
        if not callable(value):
            return _device(value) if isinstance(value, np.ndarray) else value

        def method(*inputs: Any, **options: Any) -> Any:
            if unknown := options.keys() & {"where", "initial"}:
                raise TypeError(f"{name}() got an unexpected keyword argument {unknown}")
            COUNTS.kernels += 1
            return _device(value(*_host(inputs, name), **options))

        return method

    def __getitem__(self, index: Any) -> DeviceArray:
        _refuse_apart(index)
        return DeviceArray(np.asarray(self._hidden[_index(index)]))

    def __setitem__(self, index: Any, value: Any) -> None:
        _refuse_apart(index)
        COUNTS.kernels += 1
        self._hidden[_index(index)] = _host(value, "__setitem__")

    def __len__(self) -> int:
        return len(self._hidden)

    def __iter__(self) -> Iterator[DeviceArray]:
        return (DeviceArray(np.asarray(part)) for part in self._hidden)

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self._hidden.shape}, dtype={self._hidden.dtype})"

    __hash__ = None  # type: ignore[assignment]

    def get(self) -> np.ndarray:
        COUNTS.wait("a download")
        COUNTS.downloads += 1
        return self._hidden.copy()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def item(self) -> Any:
        COUNTS.wait("reading a value")
        COUNTS.downloads += 1
        return self._hidden.item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def nonzero(self) -> Any:
        COUNTS.wait("nonzero")
        return _device(self._hidden.nonzero())


def _operator(name: str) -> Callable[..., Any]:
    function = getattr(np.ndarray, name)

    def operate(self: DeviceArray, *others: Any) -> Any:
        COUNTS.kernels += 1
        result = function(self._hidden, *_host(others, name))
        if result is NotImplemented:
            return result
        return self if name.startswith("__i") and name != "__invert__" else _device(result)

    return operate


for _name in SURFACE["ndarray"]:
    if (
        (
            _name.startswith("__")
            and _name not in DeviceArray.__dict__
            and _name not in object.__dict__
        )
        or _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
    ) and callable(getattr(np.ndarray, _name, None)):
        setattr(DeviceArray, _name, _operator(_name))

DTYPE_BY_NAME = {"zeros", "ones", "empty", "full"}
CREATION = {"array", "asarray", "ascontiguousarray", "asfortranarray", "asanyarray"}
WAITING = {"nonzero", "flatnonzero", "argwhere", "unique", "bincount"}


def _function(name: str, offered: dict[str, Any]) -> Callable[..., Any] | None:
    """One of CuPy's functions: its name and keywords, NumPy's arithmetic."""
    function = getattr(np, name, None)
    if function is None:
        return None
    if "ufunc" in offered:
        allowed: set[str] | None = {"out", "casting", "dtype"}
    elif offered["signature"] is None or offered["signature"][1]:
        allowed = None  # takes any keyword
    else:
        allowed = set(offered["signature"][0])

    def call(*inputs: Any, **options: Any) -> Any:
        if allowed is not None and (unknown := options.keys() - allowed):
            raise TypeError(f"{name}() got an unexpected keyword argument {min(unknown)!r}")
        if name in DTYPE_BY_NAME and len(inputs) > 1 + (name == "full"):
            raise TypeError(f"{name}(): give dtype by its name, not by its place")
        COUNTS.kernels += 1
        if name in WAITING or (name == "where" and len(inputs) == 1):
            COUNTS.wait(name)
        if name in CREATION and not isinstance(inputs[0], DeviceArray):
            COUNTS.uploads += 1
            return DeviceArray(np.array(inputs[0], *inputs[1:], **options))
        options = {key: _host(value, name) for key, value in options.items()}
        return _device(function(*_host(inputs, name), **options))

    return call


def _namespace() -> SimpleNamespace:
    names: dict[str, Any] = {
        name: function
        for name, offered in SURFACE["cupy"].items()
        if (function := _function(name, offered)) is not None
    }
    names.update({name: getattr(np, name) for name in ("pi", "inf", "nan", "newaxis")})
    names.update(ndarray=DeviceArray, float32=np.float32, float64=np.float64, int64=np.int64)
    return SimpleNamespace(**names)


NAMESPACE = _namespace()


class DoubleBackend(Backend):
    """The device double as a backend of ours."""

    name = "double"
    namespace = NAMESPACE

    def to_device(self, array: Any, dtype: Any = None) -> DeviceArray:
        return NAMESPACE.asarray(array, dtype)

    def to_host(self, array: Any) -> np.ndarray:
        return array.get() if isinstance(array, DeviceArray) else np.asarray(array)

    def gather(self, array: DeviceArray, index: Any) -> DeviceArray:
        COUNTS.kernels += 1
        return DeviceArray(np.asarray(array._hidden[_index(index)]))

    def scatter_add(self, target: DeviceArray, index: Any, values: DeviceArray) -> None:
        COUNTS.kernels += 1
        np.add.at(target._hidden, _index(index), values._hidden)

    def sliding_windows(
        self, x: DeviceArray, window: tuple[int, int], stride: tuple[int, int]
    ) -> DeviceArray:
        views = np.lib.stride_tricks.sliding_window_view(x._hidden, window, axis=(2, 3))
        return DeviceArray(views[:, :, :: stride[0], :: stride[1]])

    def erf(self, x: DeviceArray) -> DeviceArray:
        COUNTS.kernels += 1
        return DeviceArray(np.asarray(erf(x._hidden)))

    @contextmanager
    def forbid_waiting(self) -> Iterator[None]:
        before, COUNTS.strict = COUNTS.strict, True
        try:
            yield
        finally:
            COUNTS.strict = before
