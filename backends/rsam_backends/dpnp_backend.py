"""dpnp, Intel's NumPy on SYCL: an Intel GPU, or the processor as a SYCL device."""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import numpy as np

from rsam_backends.base import Array, Backend, BackendError
from rsam_backends.dpnp_device import Opened, bytes_held, open_device
from rsam_backends.dpnp_waiting import FUNCTIONS, waiting_forbidden, watched
from rsam_backends.positions import positions

CREATION = ("array", "asarray", "zeros", "ones", "empty", "full", "arange", "linspace", "eye")
"""What makes arrays of no other array, so that the device has to be said."""


class DpnpBackend(Backend):
    """One SYCL device. ``device`` is its number, GPUs first (``rsam-ref doctor`` tells them).

    Arrays stay on the device; nothing here waits for it but `to_host`, `synchronize`, and masks as
    indices, whose truths have to be counted.
    """

    name = "dpnp"

    def __init__(self, device: int = 0) -> None:
        super().__init__(device)
        self.opened: Opened = open_device(device)
        self.dpnp = dpnp = self.opened.dpnp
        copyreg.pickle(dpnp.ndarray, lambda array: (array.copy, ()))  # for copy.deepcopy, of models
        made = {name: self._made_here(getattr(dpnp, name)) for name in CREATION}
        counting = {name: watched(getattr(dpnp, name)) for name in FUNCTIONS}
        names = {**vars(dpnp), **made, **counting, "where": self._where}
        self.namespace = SimpleNamespace(**names)

    def _made_here(self, function: Callable[..., Array]) -> Callable[..., Array]:
        def make(*values: Any, dtype: Any = None, **options: Any) -> Array:
            if dtype is not None:
                self._check(dtype)
            return function(*values, dtype=dtype, sycl_queue=self.opened.queue, **options)

        return make

    def _check(self, dtype: Any) -> None:
        if not self.opened.float64 and "float64" in str(dtype):
            raise BackendError(
                f"the dpnp backend: {self.opened.name} computes no float64 (SYCL's aspect fp64); "
                "give arrays and dtype='float32', or use --backend numpy"
            )

    def _where(self, condition: Array, *values: Any) -> Array:
        """``dpnp.where``, which in dpnp 0.20 reads beside arrays that lie in memory backwards."""
        forwards = self.dpnp.ascontiguousarray
        given = [
            forwards(x) if min(getattr(x, "strides", ()), default=0) < 0 else x
            for x in (condition, *values)
        ]
        return self.dpnp.where(*given)

    def to_device(self, array: Any, dtype: Any = None) -> Array:
        if not self.opened.float64 and dtype is None:
            self._check(getattr(array, "dtype", "float32"))  # dpnp would make it float32 silently
        return self.namespace.asarray(array, dtype=dtype)

    def to_host(self, array: Any) -> np.ndarray:
        return self.dpnp.asnumpy(array)

    def gather(self, array: Array, index: Any) -> Array:
        if not isinstance(index, tuple) or len(index) == 1:
            return array[index]
        # Arrays around a slice are refused, and beside a number they come out in other axes.
        places = positions(self.namespace, array.shape, index)
        return self.dpnp.take(self.dpnp.reshape(array, (-1,)), places)

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        xp = self.namespace
        at = positions(xp, target.shape, index)
        sums = xp.reshape(xp.broadcast_to(values, at.shape), (-1,))
        at = xp.reshape(at, (-1,))
        if not at.size:
            return
        order = xp.argsort(at, kind="stable")
        at, sums = at[order], sums[order]
        # Equal places are neighbours now. Each value becomes the sum of those at its place up to
        # it, over twice as many in every round: no atomics, so the order of additions is fixed.
        reach = 1
        while reach < at.size:
            more = xp.where(at[reach:] == at[:-reach], sums[:-reach], 0)
            sums = xp.concat((sums[:reach], sums[reach:] + more))
            reach *= 2
        places = xp.arange(target.size)
        last = xp.searchsorted(at, places, side="right") - 1  # the last at this place, if any is
        last = xp.maximum(last, 0)
        added = xp.where(at[last] == places, sums[last], 0)
        target += xp.reshape(added, target.shape)

    def sliding_windows(self, x: Array, window: tuple[int, int], stride: tuple[int, int]) -> Array:
        n, c, h, w = x.shape
        (kh, kw), (sh, sw) = window, stride
        of_n, of_c, of_h, of_w = x.strides
        out_h, out_w = (h - kh) // sh + 1, (w - kw) // sw + 1
        windows = self.dpnp.ndarray(
            (n, c, out_h, out_w, kh, kw),
            dtype=x.dtype,
            buffer=x,
            strides=(of_n, of_c, sh * of_h, sw * of_w, of_h, of_w),
        )
        if (min(out_h, kh) > 1) == (min(out_w, kw) > 1):
            return windows
        return windows * 1  # a copy: dpnp 0.20 makes others of such overlapping views wrongly

    def erf(self, x: Array) -> Array:
        return self.dpnp.scipy.special.erf(x)

    def freeze(self, array: Array) -> None:
        if isinstance(array, self.dpnp.ndarray):
            array.flags.writable = False

    def forbid_waiting(self) -> AbstractContextManager[Any]:
        return waiting_forbidden(self.dpnp.ndarray)

    def synchronize(self) -> None:
        self.opened.queue.wait()

    def memory_used(self) -> int:
        return bytes_held(self.opened)

    def arithmetic(self) -> dict[str, str]:
        told = self.describe()
        return {name: told[name] for name in ("library", "device", "driver")}

    def describe(self) -> dict[str, str]:
        return self.opened.describe()
