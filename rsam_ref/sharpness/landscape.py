"""The loss to measure: that of a model on fixed samples, which measuring never changes.

Batch norm makes this a choice. With fixed statistics (the default, as Li et al. 2018 draw their
figures) the loss is a mean over samples, whatever else is in their batch: this is the trained
model's own loss. With the batch's statistics, and dropout's masks fixed, it is the loss of one
mini-batch as a training step sees it: this is what SAM's ascent climbs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rsam_backends import quiet
from rsam_backends.base import Array
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import Objective, added_up
from rsam_ref.nn.passes import frozen_statistics


class Landscape:
    """The mean loss of a model on samples, as a function of the flat weights (P,).

    Calling it gives loss and gradient, as an `Objective` does; `loss` gives the loss alone, for
    about a third of the time. The model's weights, running statistics and training mode are the
    same before and after, bit for bit.

    Parameters
    ----------
    x, y:
        Inputs (N, ...) and targets (N, ...), on the host or the device.
    loss:
        A function of the model's output and the targets: the mean over the samples.
    batch_statistics:
        True: the training loss of x as one mini-batch. False: the evaluation loss, computed
        ``chunk`` samples at a time.
    seed:
        Names dropout's masks, which only the training loss has.
    """

    def __init__(
        self,
        model: Module,
        x: Any,
        y: Any,
        loss: Callable[..., Tensor] = cross_entropy,
        *,
        batch_statistics: bool = False,
        chunk: int = 256,
        seed: int = 0,
    ) -> None:
        n = len(x)
        if n < 1:
            raise ValueError("a loss needs at least one sample")
        if chunk < 1:
            raise ValueError(f"chunk counts samples, >= 1, not {chunk}")
        self.model = model
        self.count = n
        """How many samples."""
        self.shapes = model.weights.shapes
        self.names = model.weights.names
        self.batch_statistics = batch_statistics
        size = n if batch_statistics else chunk
        parts = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        self._parts = [
            Objective(model, x[p], y[p], loss, seed, share=(p.stop - p.start) / n) for p in parts
        ]

    def __call__(self, w: Array) -> tuple[Array, Array]:
        """The loss at w and its gradient, a new vector (P,)."""
        with self._as_measured():
            return added_up(part(w) for part in self._parts)

    def loss(self, w: Array) -> Array:
        """The loss at w."""
        if self.batch_statistics:
            return self(w)[0]  # dropout's masks belong to the objective's own pass
        with self._as_measured(), self.model.weights.at(w), no_grad():
            first, *others = (p.share * p.loss(self.model(p.x), p.y)._data for p in self._parts)
        return sum(others, start=first)

    @contextmanager
    def _as_measured(self) -> Iterator[None]:
        """The model in the mode to measure in; afterwards every layer is in its own again."""
        with self.model.in_mode(training=self.batch_statistics), frozen_statistics(), quiet():
            yield
