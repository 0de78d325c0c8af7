"""The Keras optimizer that a model came compiled with, stepped on a shadow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from rsam_ref.conformance.observe.base import Settings


class KerasBase:
    """An optimizer, and how a flat vector becomes the weights that it takes. ``floats`` gives a
    context in which Keras makes variables of the weights' type.
    """

    def __init__(
        self,
        optimizer: Any,
        parts: Callable[[np.ndarray], list[np.ndarray]],
        flat: Callable[[list[Any]], np.ndarray],
        floats: Callable[[], Any],
    ) -> None:
        self.kind, self.config = type(optimizer), optimizer.get_config()
        self.name = self.kind.__name__
        self.parts, self.flat, self.floats = parts, flat, floats

    def shadow(self) -> KerasShadow:
        return KerasShadow(self)


class KerasShadow:
    """An optimizer of the same kind and settings, on variables of its own."""

    def __init__(self, base: KerasBase) -> None:
        self.base = base
        with base.floats():
            self.optimizer = base.kind.from_config(base.config)
        self.variables: list[Any] = []

    def step(self, w: np.ndarray, g: np.ndarray, settings: Settings) -> np.ndarray:
        with self.base.floats():
            if not self.variables:
                self.variables = [keras.Variable(part) for part in self.base.parts(w)]
            for variable, part in zip(self.variables, self.base.parts(w)):
                variable.assign(part)
            gradients = [keras.ops.convert_to_tensor(part) for part in self.base.parts(g)]
            self.optimizer.apply(gradients, self.variables)
            return self.base.flat([keras.ops.convert_to_numpy(v) for v in self.variables])
