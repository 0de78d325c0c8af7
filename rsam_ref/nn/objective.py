"""From a model, a loss and a batch to ``loss_and_grad(w)``: the function that an optimizer sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rsam_backends import Stream, require_here, to_device, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.protocol import step_under_way
from rsam_ref.autograd.errors import ShapeError
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.nn.faults import check_targets, first_not_finite
from rsam_ref.nn.module import OF_A_MODEL, Module
from rsam_ref.nn.passes import current_pass, passing
from rsam_ref.nn.shards import Shard

LossAndGradient = tuple[Array, Array]
"""A scalar on the device, and a vector (P,)."""


class Objective:
    """The mean loss of a model on one mini-batch, as a function of the flat weights.

    Calling it with w (P,) gives the loss (a scalar on the device) and its gradient, a new vector
    (P,). The weights are *looked at* where the caller says, not changed: there is nothing to
    restore, and so nothing to restore wrongly.

    All calls between two `begin_step` see the same mini-batch and the same dropout masks; batch
    norm's running statistics move in the first of them only, and are as before after
    `abandon_step`. Optimizers call both; inside a step that has not begun here, a call is an error.

    Of a part of a mini-batch (see batch_parts.py), ``share`` is how large a part of the whole it
    is: loss and gradient are multiplied by it.
    """

    shard: Shard | None = None  # of a part that is computed at the same time as the others

    def __init__(
        self,
        model: Module,
        x: Any,
        y: Any,
        loss: Callable[..., Tensor],
        seed: int,
        share: float = 1.0,
    ) -> None:
        self.model = model
        self.loss = loss
        self.seed = seed
        self.share = share
        self.shapes = model.weights.shapes
        x, y = (a._data if isinstance(a, Tensor) else to_device(a) for a in (x, y))
        self.x = Tensor.over(x[...])  # views, so that the caller's arrays stay writeable
        self.y = Tensor.over(y[...])
        if self.x.ndim == 0 or self.y.shape[:1] != self.x.shape[:1]:
            raise ShapeError(
                f"objective: inputs of shape {self.x.shape} and targets of shape {self.y.shape}: "
                "give one target for every input, along the first axis"
            )
        if self.x.shape[0] == 0:
            raise ShapeError("objective: a mini-batch of no samples has no mean loss")
        if xp.isdtype(self.x.dtype, "real floating") and self.x.dtype != model.weights.flat.dtype:
            self.x = Tensor.over(xp.asarray(self.x._data, dtype=model.weights.flat.dtype))
        self._step = -1
        self.begin_step()

    def begin_step(self) -> None:
        """The next call is the first pass of a new step."""
        self._step += 1
        self._first = True
        self._under = step_under_way()
        self._statistics: list[tuple[Module, str, Array]] = []

    def abandon_step(self) -> None:
        """Batch norm's running statistics are again what they were when the step began."""
        for module, name, value in self._statistics:
            setattr(module, name, value)
        self._statistics = []

    def __call__(self, w: Array) -> LossAndGradient:
        """The loss at w (P,), a scalar on the device, and its gradient, a new vector (P,)."""
        if (step := step_under_way()) is not None and step is not self._under:
            raise RuntimeError(
                "objective: called by a function that does not pass on where a step begins, so "
                "dropout's masks and batch norm's statistics would be wrong: give the optimizer "
                "the objective itself (or a Stepwise that hands begin_step on to it)"
            )
        weights = self.model.weights
        if getattr(w, "shape", None) != weights.flat.shape:
            raise ShapeError(
                f"objective: weights of shape {getattr(w, 'shape', type(w))}, but this model has "
                f"{weights.flat.size} in one flat vector: give a vector like model.weights.flat"
            )
        require_here(weights.flat, "the model", OF_A_MODEL)
        require_here(w, "w")
        if w.dtype != weights.flat.dtype:  # a wider w would widen all that follows
            w = xp.asarray(w, dtype=weights.flat.dtype)
        gradient = xp.empty_like(weights.flat)
        how = passing(
            move_statistics=self._first and current_pass().move_statistics,
            stream=Stream("dropout", self.seed, self._step),
            guarded=False,
            shard=self.shard,
        )
        if self._first:
            self._statistics = self.model.buffer_values()
        try:
            with weights.at(w), weights.gradient_into(gradient), how:
                loss = self.loss(self.model(self.x), self.y)
                if self.share != 1:
                    loss = self.share * loss
                loss.backward()
        except BaseException:
            self.abandon_step()
            raise
        self._first = False
        return loss._data, gradient

    def samples(self, count: int) -> list[Objective]:
        """The first samples of the mini-batch, each alone; batch norm's statistics do not move."""
        found = []
        for i in range(min(count, self.x.shape[0])):
            x, y = self.x._data[i : i + 1], self.y._data[i : i + 1]
            alone = Objective(self.model, x, y, self.loss, self.seed)
            alone._first = False
            found.append(alone)
        return found

    def first_not_finite(self, w: Array) -> str | None:
        """Where the values of this batch at w first stop being finite, if they do: a sentence.

        Raises ShapeError where it is the targets that do not fit.
        """
        with self.model.weights.at(w):
            check_targets(self.model, self.x, self.y, self.loss)
            return first_not_finite(self.model, self.x)


def added_up(results: Iterable[LossAndGradient]) -> LossAndGradient:
    """The sum of losses and of gradients, of the parts of a mini-batch; in the first's vector."""
    (loss, gradient), *others = results
    for more_loss, more_gradient in others:
        loss = loss + more_loss
        gradient += more_gradient
    return loss, gradient


def objective(
    model: Module,
    x: Any,
    y: Any,
    loss: Callable[..., Tensor] = cross_entropy,
    *,
    seed: int = 0,
) -> Objective:
    """``loss_and_grad`` for ``loss(model(x), y)``.

    Parameters
    ----------
    x, y:
        One mini-batch: inputs (N, ...) and targets (N,) or (N, K), on the host or the device.
    loss:
        A function of the model's output and the targets that gives a scalar, the mean over the
        batch (`ops_nn.cross_entropy`).
    seed:
        Names the dropout masks: step t of this objective draws from ``Stream("dropout", seed, t)``.

    Raises ShapeError where inputs and targets are not as many, or none.

    >>> import numpy as np
    >>> from rsam_ref import models, objective
    >>> model = models.mlp([2, 8, 3], seed=0)
    >>> loss_and_grad = objective(model, np.ones((4, 2), "float32"), np.array([0, 1, 2, 0]))
    >>> loss, gradient = loss_and_grad(model.weights.flat)
    >>> loss.shape, gradient.shape
    ((), (51,))
    """
    return Objective(model, x, y, loss, seed)
