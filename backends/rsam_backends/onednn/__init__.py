"""oneDNN's kernels: its C API by ctypes, in place of the NumPy kernels where it is faster.

`loading` finds and loads it, `primitive` says what is computed with it, `pieces` how the work is
shared out; then a file for each family of ops. float32 alone is computed here; all else, and what
oneDNN does not have, is left to the NumPy kernels.
"""

from __future__ import annotations

from functools import partial

from rsam_backends.base import Kernel
from rsam_backends.numpy_kernels import KERNELS
from rsam_backends.onednn.conv import conv2d
from rsam_backends.onednn.linear import linear
from rsam_backends.onednn.loading import library
from rsam_backends.onednn.norm import batch_norm, batch_statistics, layer_norm
from rsam_backends.onednn.pieces import either
from rsam_backends.onednn.pointwise import _add_relu, gelu, relu
from rsam_backends.onednn.pooling import avg_pool2d, max_pool2d

OURS: dict[str, Kernel] = {
    "_add_relu": _add_relu,
    "_batch_norm_relu": partial(batch_norm, relu=True),
    "avg_pool2d": avg_pool2d,
    "batch_norm": batch_norm,
    "batch_statistics": batch_statistics,
    "conv2d": conv2d,
    "gelu": gelu,
    "layer_norm": layer_norm,
    "linear": linear,
    "max_pool2d": max_pool2d,
    "relu": relu,
}


def kernels() -> dict[str, Kernel]:
    """All kernels of this set. Raises `BackendError` where there is no oneDNN that works."""
    library()
    return KERNELS | {name: either(ours, KERNELS.get(name)) for name, ours in OURS.items()}
