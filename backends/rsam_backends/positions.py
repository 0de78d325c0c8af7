"""Where an index points: NumPy's rules, for libraries that take fewer kinds of index than NumPy."""

from __future__ import annotations

import math
from typing import Any

from rsam_backends.base import Array


def positions(library: Any, shape: tuple[int, ...], index: Any) -> Array:
    """Whole numbers in the shape of ``array[index]``: where its elements lie in the flat array.

    ``index`` is what NumPy takes: numbers, slices, None, Ellipsis, and arrays of whole numbers or
    of truths, of which there is at least one. Numbers beside arrays are arrays of one. The arrays
    are broadcast; what they make of their axes stands where they stand if they are neighbours,
    and else in front. (A mask waits for the device, which has to count its truths.)
    """
    parts = _one_for_each_axis(library, len(shape), index)
    arrays = [i for i, part in enumerate(parts) if not isinstance(part, slice | None)]
    together = arrays == list(range(arrays[0], arrays[-1] + 1))
    whole = [library.asarray(parts[i], dtype=library.int64) for i in arrays]
    drawn = iter(library.broadcast_arrays(*whole))
    found: list[Array] = []  # for each axis of the result, or of the arrays' together
    axis = 0
    for i, part in enumerate(parts):
        if part is None:
            found.append(library.zeros(1, dtype=library.int64))
            continue
        size, step = shape[axis], math.prod(shape[axis + 1 :])
        if isinstance(part, slice):
            start, stop, stride = part.indices(size)
            found.append(library.arange(start, stop, stride) * step)
        else:
            array = next(drawn)
            array = library.where(array < 0, array + size, array) * step  # from the end, as -1
            if i == arrays[0]:
                place, among = len(found) if together else 0, array
            else:
                among = among + array
        axis += 1
    found.insert(place, among)
    return _outer_sum(library, found)


def _one_for_each_axis(library: Any, ndim: int, index: Any) -> list[Any]:
    """The parts of an index, with slices for the axes that it leaves out, and numbers for masks."""
    parts: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        is_mask = hasattr(part, "dtype") and library.isdtype(part.dtype, "bool")
        parts += library.nonzero(part) if is_mask else [part]
    used = sum(part is not None and part is not Ellipsis for part in parts)
    if used > ndim:
        raise IndexError(f"{used} indices for an array of {ndim} axes")
    missing = [slice(None)] * (ndim - used)
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    at = dots[0] if dots else len(parts)
    return parts[:at] + missing + parts[at + len(dots) :]


def _outer_sum(library: Any, parts: list[Array]) -> Array:
    """The sums of one element of each array, in as many axes as all arrays have together."""
    total, after = parts[-1], parts[-1].ndim
    for part in reversed(parts[:-1]):
        total = library.reshape(part, (*part.shape, *(1,) * after)) + total
        after += part.ndim
    return total
