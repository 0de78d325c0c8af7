"""Loss and accuracy of a model anywhere in its space of weights, also where nobody trained it.

Between models batch norm is the question: running statistics fit the weights that they were
gathered with, and at any other place the network is judged by another one's numbers. So batch norm
takes the statistics of the samples themselves here, so many at a time; all else, dropout too, is
as in evaluation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Protocol

from rsam_backends import quiet, xp
from rsam_backends.base import Array
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import Objective
from rsam_ref.nn.passes import frozen_statistics


class Scored(Protocol):
    """Loss and accuracy on fixed samples, as a function of the weights."""

    together: int | None
    """How many samples batch norm takes its statistics of, at most; None without batch norm."""

    def __call__(self, w: Array) -> tuple[float, float | None]:
        """The mean loss at w (P,), and the share of the samples that are taken for what they are.

        None in place of the share where targets are no classes.
        """
        ...


class ModelScored:
    """A model of ours on samples x (N, ...) of classes y (N,); it stays as it is, bit for bit.

    The samples are taken in equal parts of at most ``chunk``.
    """

    def __init__(
        self, model: Module, x: Any, y: Any, loss: Callable[..., Tensor], *, chunk: int = 256
    ) -> None:
        self.model = model
        self._norms = [m for m in model.modules().values() if "running_mean" in m.buffers]
        bounds = even_parts(len(x), chunk)
        self.together = bounds[0].stop if self._norms else None
        self._parts = [
            Objective(model, x[p], y[p], loss, 0, share=(p.stop - p.start) / len(x)) for p in bounds
        ]

    def __call__(self, w: Array) -> tuple[float, float | None]:
        """The mean loss at w (P,), and the share that is taken for what it is."""
        weights, kind = self.model.weights, self.model.weights.flat.dtype
        loss = right = 0.0
        with self.model.in_mode(training=False), frozen_statistics(), quiet(), no_grad():
            for norm in self._norms:
                norm.training = True
            with weights.at(w.astype(kind, copy=False)):
                for part in self._parts:
                    scores = self.model(part.x)
                    loss += part.share * float(part.loss(scores, part.y)._data)
                    taken = xp.isfinite(scores._data).all(axis=1)
                    taken = taken & (scores._data.argmax(axis=1) == part.y._data)
                    right += part.share * float(taken.mean())
        return loss, right


def even_parts(count: int, most: int) -> list[slice]:
    """``count`` samples in as few parts as hold at most ``most`` each, equal but for one sample."""
    if count < 1:
        raise ValueError("a loss needs at least one sample")
    parts = math.ceil(count / most)
    edges = [(i * count + parts - 1) // parts for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]
