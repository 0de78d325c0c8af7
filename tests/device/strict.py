"""array-api-strict as a backend: nothing but the standard's names, types and rules.

The standard knows no views: whether a slice or a reshaped array shares memory is left to the
library. So what the core does through views of a flat vector, and by windows, is not for it.
"""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np

from rsam_backends.base import Backend


class StrictBackend(Backend):
    """The standard alone."""

    name = "strict"
    namespace = array_api_strict

    def to_device(self, array: Any, dtype: Any = None) -> Any:
        return array_api_strict.asarray(array, dtype=dtype)

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(array)

    def gather(self, array: Any, index: Any) -> Any:
        raise NotImplementedError("the standard has no index of arrays beside slices")

    def scatter_add(self, target: Any, index: Any, values: Any) -> None:
        raise NotImplementedError("the standard does not say what adding twice at a place does")

    def sliding_windows(self, x: Any, window: tuple[int, int], stride: tuple[int, int]) -> Any:
        raise NotImplementedError("the standard has no views, and so no windows")

    def erf(self, x: Any) -> Any:
        raise NotImplementedError("the standard has no erf")
