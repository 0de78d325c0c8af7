"""How work is shared out: a few images at a time to each thread, and oneDNN at one thread each.

Its own threads (OpenMP's) wait for one another at the end of every computation, spinning; beside
BLAS's and ours on the same cores that costs more than it gains, most where the machine has other
work. The pieces do not depend on the number of threads, so neither do the bits. Where oneDNN was
built on a runtime that cannot be told so (TBB, SYCL), all is one piece, and its threads its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rsam_backends.base import Array, Kernel
from rsam_backends.numpy_kernels import blocks
from rsam_backends.onednn.loading import Unsupported, library


def pieces(n: int, size: int) -> list[slice]:
    """n things, of ``size`` bytes each, in slices of nearly one size, about `blocks.PANEL`."""
    if library().has_own_threads:
        return [slice(0, n)]
    count = min(n, max(1, round(n * size / blocks.PANEL)))
    return [slice(i * n // count, (i + 1) * n // count) for i in range(count)]


def length(piece: slice) -> int:
    """How many things a piece has."""
    return piece.stop - piece.start


def float32(*arrays: Array | None) -> bool:
    """Whether these are arrays of the one type that is computed here, and none of them is empty."""
    return all(a is None or (a.dtype == np.float32 and a.size > 0) for a in arrays)


def channels_last(x: Array) -> Array:
    """(N, C, H, W) as (N, H, W, C) in C order: a view where it lies so, or else a copy."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def either(ours: Callable[..., Any], other: Kernel | None) -> Kernel:
    """A kernel that leaves what it cannot do to another one."""

    def kernel(*arguments: Any, **options: Any) -> Any:
        try:
            result = ours(*arguments, **options)
        except Unsupported:
            result = NotImplemented
        if result is NotImplemented and other is not None:
            return other(*arguments, **options)
        return result

    return kernel
