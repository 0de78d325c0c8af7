"""Whose an array is: the library of the backend in force, or another.

Arrays of another backend's library are an error in one line, since they do not move by themselves.
Vectors of PyTorch and JAX, which are no backends, have what the draw needs of them:
`filter_noise` takes such vectors as the algorithms do, which need operators alone. The draw needs
two functions more; they are those of the library that the vector comes from.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import TYPE_CHECKING, Any

from rsam_backends.base import Array, Backend, package_of
from rsam_backends.switch import current_backend, to_host, xp

if TYPE_CHECKING:
    from rsam_backends.random import Stream


def require_here(array: Any, what: str, remedy: str = "") -> None:
    """Raise TypeError for an array of another library than that of the backend in force.

    ``what`` it is and what else is to be done are said in the error's line.
    """
    backend = current_backend()
    own = _own_class(backend)
    if type(array) is own or package_of(array) == own.__module__.partition(".")[0]:
        return
    raise TypeError(
        f"{what}: an array of {package_of(array)}, but the backend in force is {backend.name}; "
        + (remedy or "bring it here with to_device(...) of rsam_backends, or make it here")
    )


@functools.cache
def _own_class(backend: Backend) -> Any:
    return type(backend.namespace.zeros(0))


def copied_here(array: Any, dtype: Any = None) -> Array:
    """A copy as an array of the backend in force; TypeError for one that lies elsewhere."""
    try:
        return xp.asarray(array, dtype=dtype, copy=True)
    except TypeError:
        if hasattr(array, "shape"):
            require_here(array, "data of a tensor")
        raise


def library_of(array: Any) -> Any:
    """The namespace whose functions take this array: PyTorch's, JAX's NumPy, or else `xp`."""
    name = package_of(array)
    if name == "torch":
        return sys.modules["torch"]
    if name in ("jax", "jaxlib"):
        return sys.modules["jax"].numpy
    return xp


def normal_like(array: Any, stream: Stream) -> Array:
    """As many standard normal draws as the array has numbers, as a vector of its library and type.

    The numbers are the same for every library; those for types other than float64 are drawn in
    float32.
    """
    size, library = math.prod(array.shape), library_of(array)
    if library is xp:
        return stream.normal(size, array.dtype)
    drawn = to_host(stream.normal(size, "float64" if "float64" in str(array.dtype) else "float32"))
    if hasattr(array, "new_tensor"):
        return array.new_tensor(drawn)  # on its device as well
    return library.asarray(drawn, dtype=array.dtype)
