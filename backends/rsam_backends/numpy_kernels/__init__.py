"""The NumPy backend's faster ops: each has its definition's signature, and is tested against it.

Three things make them fast. They work block by block, so that what one line makes is still in the
core's cache when the next reads it; the blocks are shared out among threads; and images, logically
(N, C, H, W) everywhere, lie channels last in here, (N, H, W, C), and are handed out as views of
that, so that the next layer finds them as it wants them.

A kernel leaves to the definition (NotImplemented) what it cannot do, and what is too small to gain.
"""

from __future__ import annotations

from rsam_backends.base import Kernel
from rsam_backends.numpy_kernels.attention import scaled_dot_product_attention
from rsam_backends.numpy_kernels.conv import conv2d
from rsam_backends.numpy_kernels.flat import piecewise, scaled_draw
from rsam_backends.numpy_kernels.linear import linear
from rsam_backends.numpy_kernels.norm import batch_norm, batch_statistics, layer_norm
from rsam_backends.numpy_kernels.pointwise import _add_relu, add, gelu, relu
from rsam_backends.numpy_kernels.pooling import max_pool2d

KERNELS: dict[str, Kernel] = {
    "_add_relu": _add_relu,
    "add": add,
    "batch_norm": batch_norm,
    "batch_statistics": batch_statistics,
    "conv2d": conv2d,
    "gelu": gelu,
    "layer_norm": layer_norm,
    "linear": linear,
    "max_pool2d": max_pool2d,
    "piecewise": piecewise,
    "relu": relu,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "scaled_draw": scaled_draw,
}
