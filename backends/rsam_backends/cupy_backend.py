"""CuPy, on an NVIDIA GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from rsam_backends.base import Array, Backend, BackendError
from rsam_backends.cupy_kernels import SOURCE, THREADS, Long, Real, make_kernels

INSTALL = "pip install 'rsam-ref[cuda13]' (CUDA 13 drivers, 580 or newer) or 'rsam-ref[cuda12]'"


class CupyBackend(Backend):
    """One GPU. ``device`` is its number as CUDA counts them.

    Arrays stay on the GPU; nothing here waits for it but `to_host` and `synchronize`.
    """

    name = "cupy"

    def __init__(self, device: int = 0) -> None:
        super().__init__(device)
        self.cupy = cupy = import_cupy()
        count = device_count(cupy)
        if not 0 <= device < count:
            raise BackendError(
                f"the cupy backend: no device {device}; there are {count}, from 0 on"
            )
        self.namespace = cupy
        self._modules: dict[str, Any] = {}
        self.activate()
        self.kernels = make_kernels(cupy, self._launch)

    def activate(self) -> None:
        self.cupy.cuda.Device(self.device).use()

    def _launch(self, kernel: str, blocks: int, *arguments: Any) -> None:
        dtype, *others = [
            a.dtype for a in arguments if isinstance(a, self.cupy.ndarray) and a.dtype.kind == "f"
        ]
        if any(other != dtype for other in others):  # it would read beyond the ends of arrays
            raise TypeError(f"{kernel}: arrays of {dtype} and of {', '.join(map(str, others))}")
        if dtype.name not in self._modules:
            c_type = {"float32": "float", "float64": "double"}[dtype.name]
            self._modules[dtype.name] = self.cupy.RawModule(
                code=SOURCE.read_text(encoding="utf-8"), options=(f"-DREAL={c_type}",)
            )
        function = self._modules[dtype.name].get_function(kernel)
        function((blocks,), (THREADS,), tuple(_argument(a, dtype) for a in arguments))

    def to_device(self, array: Any, dtype: Any = None) -> Array:
        return self.cupy.asarray(array, dtype)

    def to_host(self, array: Array) -> np.ndarray:
        return self.cupy.asnumpy(array)

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        self.cupy.add.at(target, index, values)

    def sliding_windows(self, x: Array, window: tuple[int, int], stride: tuple[int, int]) -> Array:
        views = self.cupy.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
        return views[:, :, :: stride[0], :: stride[1]]

    def erf(self, x: Array) -> Array:
        from cupyx.scipy.special import erf

        return erf(x)

    def forbid_waiting(self) -> AbstractContextManager[Any]:
        import cupyx

        return cupyx.allow_synchronize(False)

    def synchronize(self) -> None:
        self.cupy.cuda.get_current_stream().synchronize()

    def memory_used(self) -> int:
        return int(self.cupy.get_default_memory_pool().used_bytes())

    def arithmetic(self) -> dict[str, str]:
        told = self.describe()
        return {name: told[name] for name in ("library", "device", "CUDA")}

    def describe(self) -> dict[str, str]:
        cupy = self.cupy
        properties = cupy.cuda.runtime.getDeviceProperties(self.device)
        free, total = cupy.cuda.Device(self.device).mem_info
        return {
            "library": f"CuPy {cupy.__version__}",
            "device": f"{properties['name'].decode()} (number {self.device})",
            "memory": f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
            "CUDA": f"runtime {_version(cupy.cuda.runtime.runtimeGetVersion())}, "
            f"driver {_version(cupy.cuda.runtime.driverGetVersion())}",
        }


def import_cupy() -> Any:
    """CuPy, or a `BackendError` that says how to install it."""
    try:
        import cupy
    except ImportError as error:
        missing = "is not installed" if error.name == "cupy" else f"does not load ({error})"
        raise BackendError(f"the cupy backend: CuPy {missing}; {INSTALL}") from None
    return cupy


def device_count(cupy: Any) -> int:
    """How many GPUs there are; a `BackendError` where there is no driver or no GPU."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        reason = str(error).split(": ", 1)[-1]
        raise BackendError(
            f"the cupy backend: no usable NVIDIA driver ({reason}); install or update the driver, "
            "or use --backend numpy"
        ) from None
    if count == 0:
        raise BackendError(
            "the cupy backend: the driver finds no GPU (is CUDA_VISIBLE_DEVICES set?); "
            "use --backend numpy"
        )
    return int(count)


def _argument(value: Any, dtype: Any) -> Any:
    """A kernel's argument in the C type that kernels.cu declares."""
    if isinstance(value, Long):
        return np.int64(value)
    if isinstance(value, Real):
        return dtype.type(value)
    if isinstance(value, int):
        return np.int32(value)
    return value


def _version(number: int) -> str:
    """CUDA's 13010 as 13.1."""
    return f"{number // 1000}.{number % 1000 // 10}"
