"""Random vectors that estimates ask a matrix with."""

from __future__ import annotations

import math

from rsam_backends import Stream, library_of, to_device, xp
from rsam_backends.base import Array


def signs_like(array: Array, stream: Stream) -> Array:
    """A vector of random signs, -1 or 1 alike, as many as the array has, of its library and type.

    Rademacher's draws: E[v v^T] is the identity, and of all such draws v^T H v varies least.
    """
    drawn = 2 * stream.integers(0, 2, math.prod(array.shape)) - 1
    if hasattr(array, "new_tensor"):
        return array.new_tensor(drawn)  # on its device as well
    library = library_of(array)
    signs = to_device(drawn) if library is xp else drawn
    return library.asarray(signs, dtype=array.dtype)
