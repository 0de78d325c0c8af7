"""NumPy, on the CPU: the backend that is always there."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from rsam_backends.base import Backend, BackendError, Kernel, package_of
from rsam_backends.numpy_kernels import KERNELS
from rsam_backends.threads import blas_libraries, one_blas_thread

FROM_A_DEVICE = {"dpnp": "asnumpy", "cupy": "get"}
"""By which method arrays of these libraries come to the host."""


def _sum(x: Any, axis: Any = None, **options: Any) -> Any:
    return np.add.reduce(x, axis=axis, **options)


def _max(x: Any, axis: Any = None, **options: Any) -> Any:
    return np.maximum.reduce(x, axis=axis, **options)


QUICK = {"sum": _sum, "max": _max, "isdtype": functools.cache(np.isdtype)}
"""What NumPy's functions of these names come to, without the 3 us that each takes to get there."""


class NumpyBackend(Backend):
    """The host's own memory and processor."""

    name = "numpy"
    namespace = SimpleNamespace(**vars(np) | QUICK)

    def __init__(self, device: int = 0) -> None:
        super().__init__(device)
        self.kernels = dict(KERNELS)
        keep_freed_memory()
        if device != 0:
            raise ValueError(f"the numpy backend has one device, 0; device {device} was asked for")

    def kernel_set(self, kind: str) -> Mapping[str, Kernel | None]:
        if kind == "onednn":
            from rsam_backends import onednn  # it loads a library of 50 MB

            return onednn.kernels()
        return super().kernel_set(kind)

    def to_device(self, array: Any, dtype: Any = None) -> np.ndarray:
        return np.asarray(from_a_device(array), dtype)

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(from_a_device(array))

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
        return bool(((array >= low) & (array <= high)).all())

    def freeze(self, array: Any) -> None:
        array.setflags(write=False)

    def quiet(self) -> np.errstate:
        return np.errstate(all="ignore")

    def deterministic(self) -> AbstractContextManager[Any]:
        if numpy_blas() is None:
            raise BackendError(
                "the threads of this NumPy's BLAS cannot be set from here (threadpoolctl knows "
                "OpenBLAS, MKL and BLIS): give it one thread by its own variable, such as "
                "VECLIB_MAXIMUM_THREADS=1 for Apple's Accelerate, and go without deterministic"
            )
        return one_blas_thread()

    def arithmetic(self) -> dict[str, Any]:
        extensions = np.show_config(mode="dicts").get("SIMD Extensions", {})
        in_use = [*extensions.get("baseline", []), *extensions.get("found", [])]
        return {
            "library": f"NumPy {np.__version__}",
            "instructions": " ".join(in_use),
            "BLAS": numpy_blas(),
        }

    def arithmetic_of(self, kernels: str) -> dict[str, Any]:
        if kernels != "onednn":
            return {}
        from rsam_backends.onednn.loading import library

        return {"oneDNN": library().arithmetic()}

    def refuse_unordered(self, kernels: str) -> None:
        if kernels != "onednn":
            return
        from rsam_backends.onednn.loading import library

        if library().has_own_threads:
            raise BackendError(
                f"oneDNN {library().version} at {library().path} has threads of its own, whose "
                "number decides bits: use the wheel onednn-cpu-gomp, or other kernels"
            )

    def describe(self) -> dict[str, str]:
        blas = numpy_blas()
        return {
            "library": f"NumPy {np.__version__}",
            "device": f"CPU, {platform.machine()}, {os.cpu_count()} cores",
            "BLAS": in_words(blas) if blas else "unknown",
        }

    def describe_kernels(self) -> dict[str, str]:
        return {"kernels onednn": onednn_in_words()}


def from_a_device(array: Any) -> Any:
    """An array of dpnp or CuPy as NumPy's, which they give when asked by name; others as they are.

    So a state that was taken under another backend, and an input, cross to the host.
    """
    name = FROM_A_DEVICE.get(package_of(array))
    return array if name is None else getattr(array, name)()


def numpy_blas() -> dict[str, Any] | None:
    """The BLAS that NumPy uses: its name, version, architecture and number of threads now.

    None where threadpoolctl does not know it. Where several are loaded, as SciPy brings one along,
    NumPy's lies in NumPy's folder, or else was loaded first.
    """
    package = Path(np.__file__).parent
    folders = package / ".dylibs", package.parent / "numpy.libs"
    found = blas_libraries()
    own = [library for library in found if Path(library["filepath"]).parent in folders]
    for library in own or found:
        return {
            "name": library["internal_api"],
            "version": library["version"],
            "architecture": library.get("architecture"),
            "threads": library["num_threads"],
        }
    return None


def in_words(blas: dict[str, Any]) -> str:
    """What `numpy_blas` tells, such as openblas 0.3.31 for Haswell, 2 threads."""
    built = f" for {blas['architecture']}" if blas["architecture"] else ""
    count = blas["threads"]
    return f"{blas['name']} {blas['version']}{built}, {count} thread{'' if count == 1 else 's'}"


def onednn_in_words() -> str:
    """Which oneDNN is found, and what it runs on; or how to install one."""
    from rsam_backends.onednn.loading import library

    try:
        return library().describe()
    except BackendError as error:
        return f"not here: {error}"


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
