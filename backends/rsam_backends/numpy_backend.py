"""NumPy, on the CPU: the backend that is always there."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Any

import numpy as np

from rsam_backends.base import Backend
from rsam_backends.numpy_kernels import KERNELS


class NumpyBackend(Backend):
    """The host's own memory and processor."""

    name = "numpy"
    namespace = np

    def __init__(self, device: int = 0) -> None:
        super().__init__(device)
        self.kernels = dict(KERNELS)
        keep_freed_memory()
        if device != 0:
            raise ValueError(f"the numpy backend has one device, 0; device {device} was asked for")

    def to_device(self, array: Any, dtype: Any = None) -> np.ndarray:
        return np.asarray(array, dtype)

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(array)

    def scatter_add(self, target: np.ndarray, index: Any, values: np.ndarray) -> None:
        np.add.at(target, index, values)

    def sliding_windows(
        self, x: np.ndarray, window: tuple[int, int], stride: tuple[int, int]
    ) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
        return windows[:, :, :: stride[0], :: stride[1]]

    def erf(self, x: np.ndarray) -> np.ndarray:
        from scipy.special import erf  # 0.1 s to import: only where an exact GELU asks for it

        return erf(x)

    def all_within(self, array: np.ndarray, low: int, high: int) -> bool:
        return array.size == 0 or (array.min() >= low and array.max() <= high)

    def freeze(self, array: Any) -> None:
        array.setflags(write=False)

    def quiet(self) -> np.errstate:
        return np.errstate(all="ignore")

    def describe(self) -> dict[str, str]:
        from threadpoolctl import threadpool_info

        blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        threads = ", ".join(
            f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
            for pool in blas
        )
        return {
            "library": f"NumPy {np.__version__}",
            "device": f"CPU, {platform.machine()}, {os.cpu_count()} cores",
            "BLAS": threads or "unknown",
        }


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed arrays for the next ones.

    By default glibc hands large arrays back to the system as they are freed, and the system clears
    every page before it hands it out again. A training step makes and drops the same arrays over
    and over, and then spends as long on fresh pages as on arithmetic (a factor of two on a small
    network). Other C libraries are left alone; ``RSAM_REF_KEEP_MEMORY=0`` leaves glibc alone too.
    """
    if os.environ.get("RSAM_REF_KEEP_MEMORY", "1") == "0":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 32 << 20)  # bytes; the largest value that glibc takes
    mallopt(m_trim_threshold, 1 << 30)
