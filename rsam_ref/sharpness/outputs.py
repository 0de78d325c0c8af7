"""A model's outputs as a function of the flat weights, with their derivative's transpose.

Gauss-Newton matrices are made of the outputs' derivative J alone, sample by sample. Any object with
`Outputs`' two functions can be measured (for a model in PyTorch, `rsam_ref.pytorch.scores`); one
that has ``push(w, v)`` too, J_n v (N, K), spares Gauss-Newton's products a difference of scores.
"""

from __future__ import annotations

from typing import Any, Protocol

from rsam_backends import quiet, xp
from rsam_backends.base import Array
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import Objective, added_up
from rsam_ref.nn.passes import frozen_statistics


class Outputs(Protocol):
    """What a Gauss-Newton matrix needs of a model and N samples, at weights w (P,)."""

    def __call__(self, w: Array) -> Array:
        """The outputs (N, K)."""
        ...

    def pull(self, w: Array, r: Array) -> Array:
        """sum_n J_n^T r_n (P,) for vectors r (N, K), one a sample."""
        ...


class ModelOutputs:
    """The outputs of a model of ours for inputs x (N, ...), as the evaluation loss has them.

    The weights, running statistics and training mode are the same before and after.
    """

    def __init__(self, model: Module, x: Any, *, chunk: int = 256) -> None:
        if len(x) < 1:
            raise ValueError("outputs need at least one sample")
        self.model = model
        self.x = x
        self._parts = [slice(i, min(i + chunk, len(x))) for i in range(0, len(x), chunk)]

    def __call__(self, w: Array) -> Array:
        """The outputs (N, K)."""
        weights = self.model.weights
        with (
            self.model.in_mode(training=False),
            frozen_statistics(),
            quiet(),
            weights.at(w),
            no_grad(),
        ):
            kind = weights.flat.dtype
            parts = [
                self.model(Tensor.over(xp.asarray(self.x[p], dtype=kind))) for p in self._parts
            ]
            return xp.concatenate([part._data for part in parts])

    def pull(self, w: Array, r: Array) -> Array:
        """sum_n J_n^T r_n (P,): the gradient of the sum of r times the outputs, r held."""
        with self.model.in_mode(training=False), frozen_statistics(), quiet():
            parts = (Objective(self.model, self.x[p], r[p], _times, 0) for p in self._parts)
            return added_up(part(w) for part in parts)[1]

    def samples(self) -> list[ModelOutputs]:
        """Every sample alone."""
        return [ModelOutputs(self.model, self.x[i : i + 1]) for i in range(len(self.x))]


def _times(outputs: Tensor, r: Tensor) -> Tensor:
    return (outputs * r).sum()
