"""What a oneDNN primitive is: one computation, compiled for arrays of given shapes and layouts.

It is made in two steps. A *descriptor* says what is computed: the kind, the `Layout` of every array
and the options; oneDNN chooses among its implementations. From it the *primitive* is made, which is
machine code. To run it, every argument (source, weights, destination, ...) gets a *memory*, which
is a layout and a pointer. The pointers are those of NumPy's arrays, so nothing is copied; the
arrays must live until the run returns, and they do, for the caller holds them.

Making a primitive takes up to milliseconds, running it microseconds: `cached` keeps those made.
"""

from __future__ import annotations

import functools
import math
import threading
import weakref
from collections.abc import Callable
from ctypes import Structure, byref, c_float, c_int, c_int64, c_void_p
from typing import Any, NamedTuple, TypeVar

import numpy as np

from rsam_backends.base import Array, BackendError
from rsam_backends.onednn.loading import library
from rsam_backends.windows import Pair

T = TypeVar("T")

Shape = tuple[int, int, int, int]
"""(N, C, H, W)"""

# The numbers of dnnl_types.h.
FLOAT32 = 3
MOST_AXES = 12
FORWARD, BACKWARD = 64, 128
ARGUMENTS = {
    "src": 1,
    "other": 2,  # a second source
    "dst": 17,
    "weights": 33,
    "bias": 41,
    "mean": 49,
    "variance": 50,
    "scale": 51,
    "shift": 52,
    "workspace": 64,
    "scratchpad": 80,
    "diff_src": 129,
    "diff_dst": 145,
    "diff_weights": 161,
    "diff_scale": 255,
    "diff_shift": 256,
    "after_0": 32768 | 2,  # what the first operation after the computation takes
    "after_1": 2 * 32768 | 2,
}
QUERY_SCRATCHPAD, QUERY_ARGUMENT = 136, 255
SCRATCHPAD_OF_USER = 1
ANY_LAYOUT = 1
ADD, MULTIPLY, NOT_EQUAL = 0x1FFF0, 0x1FFF1, 0x1FFFB


class Layout(NamedTuple):
    """Shape of a float32 array, and its strides in numbers; without them oneDNN chooses."""

    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None


def layout(array: Array) -> Layout:
    """How an array lies in memory."""
    return Layout(array.shape, tuple([stride // 4 for stride in array.strides]))


def in_order(*shape: int) -> Layout:
    """C order."""
    return Layout(shape, tuple(math.prod(shape[i + 1 :]) for i in range(len(shape))))


def images(n: int, c: int, h: int, w: int) -> Layout:
    """(N, C, H, W) that lie channels last."""
    return Layout((n, c, h, w), (h * w * c, 1, w * c, c))


def far_padding(x: Shape, y: Shape, window: Pair, stride: Pair, padding: Pair) -> Pair:
    """Below and to the right: oneDNN holds the paddings to the size of the output."""
    sides = zip(x[2:], y[2:], window, stride, padding)
    bottom, right = ((out - 1) * s + k - size - p for size, out, k, s, p in sides)
    return bottom, right


class _Argument(Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


class Primitive:
    """A computation, ready to run: ``primitive(src=x, dst=y)``.

    Parameters
    ----------
    kind:
        As in the name of the C function, ``dnnl_KIND_primitive_desc_create``.
    arguments:
        That function's, but engine and attributes: numbers, tuples, None, layouts.
    forward:
        The forward primitive, for a backward one.
    after:
        Operations on the result before it is stored: pairs of `ADD` or `MULTIPLY` and the layout of
        the other operand, or "sum" to add what the destination holds.

    Raises `Unsupported` where oneDNN has no such computation.
    """

    def __init__(
        self,
        kind: str,
        *arguments: Any,
        forward: Primitive | None = None,
        after: tuple[Any, ...] = (),
    ) -> None:
        self._library = library()
        self.kind = kind
        self._descriptor, self._primitive = c_void_p(), c_void_p()
        self._made: list[tuple[str, c_void_p]] = []
        weakref.finalize(self, _destroy, self._library, self._made).atexit = False
        attributes = self._attributes(after)
        given = [_argument(each, self._made) for each in arguments]
        if kind != "reorder":
            given.insert(0, self._library.engine)
        if "_backward" in kind:
            given.append(forward and forward._descriptor)
        create = f"dnnl_{kind}_primitive_desc_create"
        self._create(create, self._descriptor, *given, attributes)
        self._made.append(("dnnl_primitive_desc_destroy", self._descriptor))
        self._create("dnnl_primitive_create", self._primitive, self._descriptor)
        self._made.append(("dnnl_primitive_destroy", self._primitive))
        self._names: tuple[str, ...] = ()
        self._memories: list[c_void_p] = []
        self._sizes: list[int] = []
        self._bound: Any = None
        self._scratch = self._size(self._queried(QUERY_SCRATCHPAD, 0))

    def _create(self, function: str, made: c_void_p, *arguments: Any) -> None:
        self._library.alone(self._library.call, function, byref(made), *arguments)

    def _attributes(self, after: tuple[Any, ...]) -> c_void_p:
        """Working memory is ours, so that a primitive belongs to no thread; what comes after."""
        call, attributes = self._library.call, c_void_p()
        call("dnnl_primitive_attr_create", byref(attributes))
        self._made.append(("dnnl_primitive_attr_destroy", attributes))
        call("dnnl_primitive_attr_set_scratchpad_mode", attributes, SCRATCHPAD_OF_USER)
        if after:
            chain = c_void_p()
            call("dnnl_post_ops_create", byref(chain))
            self._made.append(("dnnl_post_ops_destroy", chain))
            for each in after:
                if each == "sum":
                    call("dnnl_post_ops_append_sum", chain, c_float(1), 0, 0)
                else:
                    how, other = each[0], _argument(each[1], self._made)
                    call("dnnl_post_ops_append_binary", chain, how, other)
            call("dnnl_primitive_attr_set_post_ops", attributes, chain)
        return attributes

    def _queried(self, what: int, index: int) -> c_void_p:
        query = self._library.handle.dnnl_primitive_desc_query_md
        return c_void_p(query(self._descriptor, what, index))

    def _size(self, descriptor: c_void_p) -> int:
        return self._library.handle.dnnl_memory_desc_get_size(descriptor)

    def descriptor_of(self, name: str) -> c_void_p:
        """How it wants an argument to lie, or leaves it; it holds as long as the primitive does."""
        return self._queried(QUERY_ARGUMENT, ARGUMENTS[name])

    def room_for(self, name: str) -> Array:
        """Uninitialised memory for an argument whose layout oneDNN chose."""
        return np.empty(self._size(self.descriptor_of(name)), np.uint8)

    def _bind(self, names: tuple[str, ...]) -> None:
        """Make a memory for each argument."""
        bound = (_Argument * len(names))()
        for i, name in enumerate(names):
            memory, how = c_void_p(), self.descriptor_of(name)
            self._library.call(
                "dnnl_memory_create", byref(memory), how, self._library.engine, c_void_p()
            )
            self._made.append(("dnnl_memory_destroy", memory))
            bound[i] = _Argument(ARGUMENTS[name], memory)
            self._memories.append(memory)
            self._sizes.append(self._size(how))
        self._names, self._bound = names, bound

    def __call__(self, **arrays: Array) -> None:
        """Compute. The arrays lie as the primitive was made for; always the same arguments."""
        if self._scratch:
            arrays["scratchpad"] = np.empty(self._scratch, np.uint8)
        names = tuple(arrays)
        if names != self._names:
            if self._names:
                raise TypeError(f"{self.kind}: made for {self._names}, called with {names}")
            self._bind(names)
        point = self._library.quick.dnnl_memory_set_data_handle
        for memory, size, array in zip(self._memories, self._sizes, arrays.values()):
            if array.nbytes < size and array.flags.forc:  # else the size counts the gaps
                raise BackendError(f"oneDNN: {self.kind}: {array.nbytes} bytes, not {size}")
            point(memory, array.ctypes.data)
        self._library.alone(self._run, len(names))

    def _run(self, count: int) -> None:
        stream = self._library.stream
        self._library.call("dnnl_primitive_execute", self._primitive, stream, count, self._bound)
        self._library.call("dnnl_stream_wait", stream)


def _argument(value: Any, made: list[tuple[str, Any]]) -> Any:
    """A Python value as C takes it."""
    if isinstance(value, Layout):
        descriptor, dims = c_void_p(), _dims(value.shape)
        rank = len(value.shape)
        if value.strides is None:
            how: tuple[str, Any] = ("tag", ANY_LAYOUT)
        else:
            how = ("strides", _dims(value.strides))
        create = f"dnnl_memory_desc_create_with_{how[0]}"
        library().call(create, byref(descriptor), rank, dims, FLOAT32, how[1])
        made.append(("dnnl_memory_desc_destroy", descriptor))
        return descriptor
    if isinstance(value, tuple):
        return _dims(value)
    return c_float(value) if isinstance(value, float) else value


def _dims(values: tuple[int, ...]) -> Any:
    return (c_int64 * MOST_AXES)(*values)


def _destroy(of: Any, made: list[tuple[str, Any]]) -> None:
    for function, handle in reversed(made):
        getattr(of.handle, function)(handle)


def cached(make: Callable[..., T]) -> Callable[..., T]:
    """The same result for the same arguments: the 2,000 that were asked for last.

    Each thread has its own, since a primitive points to the arrays that it works on.
    """

    @functools.lru_cache(2000)
    def of_thread(thread: int, *arguments: Any) -> T:
        return make(*arguments)

    @functools.wraps(make)
    def of_this_thread(*arguments: Any) -> T:
        return of_thread(threading.get_ident(), *arguments)

    return of_this_thread


def packing(own: Layout, primitive: Primitive, name: str) -> Primitive:
    """Copies an argument from its own layout to the one that a primitive chose for it."""
    engine, chosen = library().engine, primitive.descriptor_of(name)
    return Primitive("reorder", own, engine, chosen, engine)


def unpacking(primitive: Primitive, name: str, own: Layout) -> Primitive:
    """The way back, of a result."""
    engine, chosen = library().engine, primitive.descriptor_of(name)
    return Primitive("reorder", chosen, engine, own, engine)
