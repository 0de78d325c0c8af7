"""Which backend is in force: `use_backend`, and `xp`, the namespace that follows it."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from rsam_backends.base import Array, Backend, BackendError, Kernel, Missing, one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

P = ParamSpec("P")
T = TypeVar("T")

ENTRY_POINTS = "rsam_ref.backends"
ENVIRONMENT = "RSAM_REF_BACKEND"
KERNELS = "RSAM_REF_KERNELS"

_instances: dict[tuple[str, int], Backend] = {}


def available_backends() -> dict[str, str]:
    """Every registered backend, by name: where its class is (``module:Class``)."""
    return {entry.name: entry.value for entry in _registered()}


def _registered() -> EntryPoints:
    from importlib.metadata import entry_points  # 10 ms to import, and numpy alone needs none

    return entry_points(group=ENTRY_POINTS)


def get_backend(name: str, device: int = 0) -> Backend:
    """The backend of that name on that device, made at first use, and tried (see selftest.py).

    Raises ValueError for an unknown name or what is no number of a device, `BackendError` for a
    backend that cannot work here.
    """
    if isinstance(device, bool) or not hasattr(device, "__index__"):
        raise ValueError(f"a device is a whole number, 0 for the first, not {device!r}")
    device = int(device)
    key = (name, device)
    if key not in _instances:
        if name == "numpy":  # needs no look-up of entry points, which costs milliseconds
            from rsam_backends.numpy_backend import NumpyBackend

            _instances[key] = NumpyBackend(device)
        else:
            found = [entry for entry in _registered() if entry.name == name]
            if not found:
                names = ", ".join(sorted({"numpy", *available_backends()}))
                raise ValueError(f"unknown backend {name!r}: the registered ones are {names}")
            backend = _made(found[0], device)
            from rsam_backends.selftest import trial  # numpy needs none, and has its own to load

            trial(backend)
            _instances[key] = backend
    return _instances[key]


def _made(entry: EntryPoint, device: int) -> Backend:
    """A registered backend. Another package's class may fail in any way: in one line here."""
    try:
        backend: Backend = entry.load()(device)
    except ModuleNotFoundError as error:
        told = f"{one_line(error)}; the package that registers it ({entry.value}) is incomplete"
    except BackendError as error:
        raise BackendError(one_line(error)) from None
    except Exception as error:
        told = f"making it fails ({type(error).__name__}: {one_line(error)})"
    else:
        return backend
    raise BackendError(f"the {entry.name} backend: {told}")


class _InForce(threading.local):
    """What this thread computes with: a backend, and the kernels that stand in for definitions."""

    backend: Backend
    kernels: Mapping[str, Kernel | None]
    """By the name of the op or function; without one, or with None, its definition runs."""
    kind: str
    """What the kernels are called."""
    looking = False
    """Whether `all_within` looks at values though it has to wait for them."""

    def __init__(self) -> None:
        # Runs once in every thread that touches it.
        self.choose(*_of_environment())

    def choose(self, backend: Backend, kernels: str | None) -> None:
        kind = os.environ.get(KERNELS, "fast") if kernels is None else kernels
        chosen = backend.kernel_set(kind)
        backend.activate()
        self.backend, self.kernels, self.kind = backend, chosen, kind


class _Namespace(threading.local):
    """NumPy's names, each bound to the function of the backend that this thread uses.

    A thread-local object has one dictionary per thread; switching fills it anew. So a name is
    found by a plain attribute access (about 50 ns), and no other thread notices the switch.
    """

    def __init__(self) -> None:
        vars(self).update(vars(in_force.backend.namespace))


def _enter(backend: Backend, kernels: str | None) -> None:
    """Let this thread use a backend, with its kernels or without."""
    in_force.choose(backend, kernels)
    names = vars(_namespace)
    names.clear()
    names.update(vars(backend.namespace))


def _of_environment() -> tuple[Backend, str]:
    """What the two variables ask for. Where that is nonsense, the first use of anything says so."""
    name, kernels = os.environ.get(ENVIRONMENT, "numpy"), os.environ.get(KERNELS, "fast")
    try:
        backend = get_backend(name)
    except (BackendError, ValueError) as error:
        told = f"{ENVIRONMENT}={name}: {error}"
    else:
        try:
            backend.kernel_set(kernels)
        except (BackendError, ValueError) as error:
            told = f"{KERNELS}={kernels}: {error}"
        else:
            return backend, kernels
    missing = Missing(name, told, vars(get_backend("numpy").namespace))
    return cast(Backend, missing), "plain"


in_force = _InForce()
_namespace = _Namespace()

if TYPE_CHECKING:
    import numpy as xp
else:
    xp = _namespace


def current_backend() -> Backend:
    """The backend in force in this thread."""
    return in_force.backend


class use_backend:  # noqa: N801 - reads as the function that it also is
    """Switch this thread to the backend ``name``: as a call for good, in a ``with`` for its block.

    ``kernels`` "plain" leaves the backend's faster ops out, so that the definitions run as they
    read; "fast" uses them; "onednn", on the CPU, those of Intel's oneDNN, and the fast ones for
    what it does not have. It is RSAM_REF_KERNELS, or fast, where it is not given.

    Arrays do not move by themselves: what was made under one backend is given to another with
    `to_host` and `to_device`.

    Raises ValueError for a name or a kind of kernels that there is not, `BackendError` for a
    backend that cannot work here.

    >>> from rsam_backends import use_backend, xp
    >>> with use_backend("numpy", kernels="plain") as backend:
    ...     print(backend.name, xp.arange(3))
    numpy [0 1 2]
    """

    def __init__(self, name: str, device: int = 0, kernels: str | None = None) -> None:
        backend = get_backend(name, device)
        self._before = in_force.backend, in_force.kind
        _enter(backend, kernels)

    def __enter__(self) -> Backend:
        return current_backend()

    def __exit__(self, *error: object) -> None:
        _enter(*self._before)


@contextmanager
def kernels_replaced(kernels: Mapping[str, Kernel | None]) -> Iterator[None]:
    """In this block ops of these names run as these functions say, in this thread.

    A function takes what the op's definition takes, and gives what it gives, or NotImplemented;
    then, and for None, the definition runs.
    """
    before = in_force.kernels
    in_force.kernels = {**before, **kernels}
    try:
        yield
    finally:
        in_force.kernels = before


def carried(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` for another thread, where it runs on the backend that is in force here."""
    here = in_force.backend, in_force.kind

    def run(*arguments: P.args, **options: P.kwargs) -> T:
        _enter(*here)
        return function(*arguments, **options)

    return run


def replaceable(definition: Callable[P, T]) -> Callable[P, T]:
    """A function on arrays that a backend may replace by a kernel of the same name."""
    name = definition.__name__

    @functools.wraps(definition)
    def apply(*arguments: P.args, **options: P.kwargs) -> T:
        kernel = in_force.kernels.get(name)
        if kernel is not None:
            value = kernel(*arguments, **options)
            if value is not NotImplemented:
                return cast(T, value)
        return definition(*arguments, **options)

    return apply


def to_device(array: Any, dtype: Any = None) -> Array:
    """``array`` (on the host, or already here) as an array of the backend in force."""
    return in_force.backend.to_device(array, dtype)


def to_host(array: Array) -> Any:
    """``array`` as a NumPy array. Waits for the device, so it has no place inside a step."""
    return in_force.backend.to_host(array)


def gather(array: Array, index: Any) -> Array:
    """``array[index]``, for an index with arrays in it, as NumPy reads it."""
    return in_force.backend.gather(array, index)


def scatter_add(target: Array, index: Any, values: Array) -> None:
    """``target[index] += values`` in place, where an index that occurs twice counts twice."""
    in_force.backend.scatter_add(target, index, values)


def sliding_windows(x: Array, window: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> Array:
    """Views of images ``x`` (N, C, H, W) under a moving window: (N, C, Ho, Wo, kH, kW)."""
    return in_force.backend.sliding_windows(x, window, stride)


def erf(x: Array) -> Array:
    """The error function, element by element."""
    return in_force.backend.erf(x)


def all_within(array: Array, low: int, high: int) -> bool | None:
    """Whether all values lie in [low, high]; None where finding out would make the host wait."""
    if in_force.looking:
        return bool(xp.all((array >= low) & (array <= high)))
    return in_force.backend.all_within(array, low, high)


@contextmanager
def looking() -> Iterator[None]:
    """A block in which definitions, without kernels, look at values for which they have to wait.

    It is for finding a fault: on a device, a label that is no class makes a loss nan; in here it is
    the error that it is on the host.
    """
    before, in_force.looking = in_force.looking, True
    try:
        with kernels_replaced(dict.fromkeys(in_force.kernels)):
            yield
    finally:
        in_force.looking = before


def freeze(array: Array) -> None:
    """Make an in-place change of ``array`` an error, where the library can."""
    in_force.backend.freeze(array)


def quiet() -> AbstractContextManager[Any]:
    """A block without warnings of overflow, for code that looks for such values itself."""
    return in_force.backend.quiet()


def deterministic() -> AbstractContextManager[Any]:
    """A block in which the results of the backend in force do not depend on numbers of threads.

    On NumPy: BLAS has one thread, and all else is summed in an order that no number of threads
    changes, in and out of such a block. What is left are the libraries and the processor: another
    version of NumPy or BLAS, or a processor for which they choose other instructions, may give
    other last bits. Raises `BackendError` on a backend that promises no order, such as cupy, and
    where BLAS is one whose threads cannot be set (Apple's Accelerate).

    >>> import numpy as np
    >>> from rsam_backends import deterministic
    >>> with deterministic():
    ...     product = np.ones((2, 3)) @ np.ones((3, 2))  # by one thread
    """
    in_force.backend.refuse_unordered(in_force.kind)
    return in_force.backend.deterministic()


def forbid_waiting() -> AbstractContextManager[Any]:
    """A block in which an unasked wait for the device is an error, where it can be told."""
    return in_force.backend.forbid_waiting()


def synchronize() -> None:
    """Wait until the device has done all that was asked of it (for timing)."""
    in_force.backend.synchronize()


def memory_used() -> int:
    """Bytes of device memory held by arrays."""
    return in_force.backend.memory_used()


__all__ = ["BackendError", "available_backends", "get_backend", "use_backend", "xp"]
