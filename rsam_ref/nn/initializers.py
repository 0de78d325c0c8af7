"""How the first weights are drawn: functions of (stream, shape, dtype)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rsam_backends import Stream, to_device, to_host, xp
from rsam_backends.base import Array

Init = Callable[[Stream, tuple[int, ...], Any], Array]


def uniform(bound: float) -> Init:
    """Draw from [-bound, bound)."""
    return lambda stream, shape, dtype: stream.uniform(shape, -bound, bound, dtype)


def normal(std: float) -> Init:
    """Draw from N(0, std^2)."""
    return lambda stream, shape, dtype: std * stream.normal(shape, dtype)


def truncated_normal(std: float) -> Init:
    """Draw from N(0, std^2), and again whatever lies beyond two std; 0.88 std remains.

    PyTorch's ``trunc_normal_(w, std=std, a=-2 * std, b=2 * std)``; its default bounds are -2 and 2.
    """

    def draw(stream: Stream, shape: tuple[int, ...], dtype: Any) -> Array:
        z = to_host(stream.normal(shape, dtype))
        while count := int((beyond := abs(z) > 2).sum()):
            z[beyond] = to_host(stream.normal(count, dtype))
        return to_device(std * z)

    return draw


def constant(value: float) -> Init:
    """The same value everywhere; nothing is drawn."""
    return lambda stream, shape, dtype: xp.full(shape, value, dtype=dtype)
