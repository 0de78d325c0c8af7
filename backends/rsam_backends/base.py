"""What a backend is: a namespace of NumPy's names, and the few functions beyond it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = Any
"""An array of whichever library is in force; for a type checker NumPy's, whose names they share."""

Vjp = Callable[[Array], Array]
"""From the gradient at an op's output to the gradient at one of its inputs."""

Vjps = tuple[Vjp | None, ...] | Callable[[Array], tuple[Array | None, ...]]
"""One for each input, None where there is no gradient; or one function for all inputs."""

Result = tuple[Array, Vjps]
"""What an op's definition, or a kernel in its place, gives: the value, and the way back."""

Kernel = Callable[..., Any]
"""What runs in place of a definition, and is called like it; NotImplemented leaves it to that."""


KINDS = "kernels are 'fast' or 'plain' (the definitions alone), or 'onednn' on numpy"


class BackendError(RuntimeError):
    """A backend cannot be used on this machine; the message says why and what to install."""


def one_line(error: object) -> str:
    """What an error says, on one line: libraries break theirs."""
    return " ".join(str(error).split())


def package_of(array: Any) -> str:
    """The package that an array's class is of: numpy, dpnp, torch."""
    return type(array).__module__.partition(".")[0]


def kind_of(thing: Any) -> str:
    """The name of a thing's type with its article, for messages: an int, a list."""
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


class Missing:
    """Stands for a backend that was asked for by the environment and cannot work here.

    Loading a library must not fail, so that `rsam-ref doctor` can say what is wrong. The first use
    of anything raises the `BackendError` that said why.
    """

    kernels: ClassVar[Mapping[str, Kernel | None]] = {}

    def __init__(self, name: str, reason: str, names: Iterable[str]) -> None:
        self.name = name
        self.reason = reason
        self.namespace = SimpleNamespace(**dict.fromkeys(names, self._fail))

    def activate(self) -> None:
        """Nothing: the first use of anything says what is wrong."""
        pass

    def kernel_set(self, kind: str) -> Mapping[str, Kernel | None]:
        """None."""
        return {}

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise BackendError(self.reason)

    def __getattr__(self, name: str) -> Any:
        return self._fail


class Backend(ABC):
    """One array library on one device.

    A backend is made by ``Backend(device)``, which raises `BackendError` where the
    library, the driver or the device is missing.
    """

    name: str
    namespace: Any
    """The module (or object) that holds the arrays' functions under NumPy's names."""

    kernels: Mapping[str, Kernel | None]
    """Faster versions of single ops, by the op's name; each has its definition's signature.

    A kernel that cannot do what it is asked returns NotImplemented; then the definition runs.
    """

    def __init__(self, device: int = 0) -> None:
        self.device = device
        self.kernels = {}

    def activate(self) -> None:  # noqa: B027 - a hook: most backends need nothing here
        """Called when a thread switches to this backend (to select the device, say)."""

    def kernel_set(self, kind: str) -> Mapping[str, Kernel | None]:
        """The kernels that `use_backend` takes by this name: "fast", `kernels`, or "plain", none.

        A backend may have more. Raises ValueError for a kind that there is not, `BackendError` for
        one that cannot work here.
        """
        if kind == "onednn":
            raise ValueError(f"kernels 'onednn' are numpy's; the {self.name} backend has none such")
        if kind not in ("fast", "plain"):
            raise ValueError(f"{KINDS}, not {kind!r}")
        return self.kernels if kind == "fast" else {}

    @abstractmethod
    def to_device(self, array: Any, dtype: Any = None) -> Array:
        """The backend's own array with the values of ``array``, which may be on the host."""

    @abstractmethod
    def to_host(self, array: Array) -> Any:
        """A NumPy array with the values of ``array``. Waits for the device."""

    @abstractmethod
    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """``target[index] += values``, where an index that occurs twice counts twice."""

    def gather(self, array: Array, index: Any) -> Array:
        """``array[index]``, for every index that NumPy takes and that has an array in it."""
        return array[index]

    @abstractmethod
    def sliding_windows(self, x: Array, window: tuple[int, int], stride: tuple[int, int]) -> Array:
        """Views of ``x`` (N, C, H, W) under a moving window: (N, C, Ho, Wo, kH, kW), not a copy."""

    @abstractmethod
    def erf(self, x: Array) -> Array:
        """The error function, element by element."""

    def all_within(self, array: Array, low: int, high: int) -> bool | None:
        """Whether all values lie in [low, high]; None where looking would make it wait."""
        return None

    def freeze(self, array: Array) -> None:  # noqa: B027 - a hook: a library may lack the flag
        """Forbid in-place changes of ``array``, where the library can."""

    def quiet(self) -> AbstractContextManager[Any]:
        """A block in which overflow and invalid values make no warnings."""
        return nullcontext()

    def deterministic(self) -> AbstractContextManager[Any]:
        """A block in which numbers of threads decide no bit. BackendError where none is promised.

        A backend that promises none says so, for a block that does nothing would be a lie.
        """
        raise BackendError(
            f"the {self.name} backend promises no fixed order of its sums, so nothing on it is "
            "deterministic; use the numpy backend, or go without"
        )

    def refuse_unordered(self, kernels: str) -> None:  # noqa: B027 - a hook: most have an order
        """BackendError where numbers of threads decide bits of these kernels, in such a block too.

        ``kernels`` is their name in `kernel_set`.
        """

    def forbid_waiting(self) -> AbstractContextManager[Any]:
        """A block in which an unasked wait for the device is an error, where it can be told."""
        return nullcontext()

    def synchronize(self) -> None:  # noqa: B027 - a hook: nothing to wait for on the host
        """Wait until the device has done all that was asked of it."""

    def memory_used(self) -> int:
        """Bytes of device memory held by arrays; 0 where the host's memory is the device's."""
        return 0

    def arithmetic(self) -> dict[str, Any]:
        """What decides the last bits of its results beside code and data; a run keeps it.

        Names and plain values, for a person and for a comparison.
        """
        return {"library": self.name}

    def arithmetic_of(self, kernels: str) -> dict[str, Any]:
        """Likewise, of the kernels of this name in `kernel_set`, beyond what `arithmetic` tells."""
        return {}

    def describe(self) -> dict[str, str]:
        """What a run keeps, and ``rsam-ref doctor`` prints: library, version, device."""
        return {"library": self.name}

    def describe_kernels(self) -> dict[str, str]:
        """What ``rsam-ref doctor`` prints of libraries that only some kernels need."""
        return {}
