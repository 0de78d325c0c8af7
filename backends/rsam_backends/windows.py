"""What convolution and pooling ask of windows, and of how they move over an image."""

from __future__ import annotations

from rsam_backends.base import Array

Pair = tuple[int, int]


def pair(value: int | Pair) -> Pair:
    """A number for both height and width, or one for each."""
    return (value, value) if isinstance(value, int) else value


def fit(x: Array, window: Pair, stride: Pair, padding: Pair, *, pooling: bool = False) -> bool:
    """Whether images x (N, C, H, W) have such windows; a pool's hold a pixel each.

    Kernels ask, and leave what does not fit to the definitions, which say what is wrong.
    """
    sizes = zip(x.shape[2:], window, stride, padding)
    return all(
        min(k, s) >= 1 and p >= 0 and size + 2 * p >= k and (2 * p <= k or not pooling)
        for size, k, s, p in sizes
    )
