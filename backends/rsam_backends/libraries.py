"""Vectors of libraries that are no backend here, PyTorch's and JAX's: what the draw needs of them.

`filter_noise` takes such vectors as the algorithms do, which need operators alone. The draw needs
two functions more; they are those of the library that the vector comes from.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from rsam_backends.base import Array
from rsam_backends.switch import to_host, xp

if TYPE_CHECKING:
    from rsam_backends.random import Stream


def library_of(array: Any) -> Any:
    """The namespace whose functions take this array: PyTorch's, JAX's NumPy, or else `xp`."""
    name = type(array).__module__.partition(".")[0]
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
