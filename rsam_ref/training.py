"""The training loop: batches in a fixed order, metrics read once an epoch, faults explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rsam_backends import Stream, quiet, to_device, to_host, xp
from rsam_backends.base import Array
from rsam_ref.nn import Module, first_not_finite, frozen_statistics
from rsam_ref.objective import objective
from rsam_ref.ops_nn import cross_entropy
from rsam_ref.optim import Optimizer
from rsam_ref.sam import Trace
from rsam_ref.tensor import Tensor, no_grad


class DivergedError(ArithmeticError):
    """A loss or a gradient that is not finite. The message names the step and the layer."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch reports: its number from 1, and the mean of its steps' (first-pass) losses."""

    number: int
    loss: float


@dataclass(frozen=True)
class Score:
    """A model's performance on samples. A prediction that is not finite counts as wrong."""

    loss: float
    accuracy: float


def batches(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[Any]:
    """The samples' numbers 0 .. n-1 in the random order of (seed, epoch), a batch at a time."""
    order = Stream("order", seed, epoch).permutation(n)
    for start in range(0, n, batch_size):
        yield order[start : start + batch_size]


def train(
    model: Module,
    optimizer: Optimizer,
    x: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
    loss: Callable[..., Tensor] = cross_entropy,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train on inputs x (N, ...) and targets y, on the host or the device, in place.

    The steps of an epoch run without waiting for the device; then their losses are read. If one is
    not finite, or the weights are not, the epoch is run again from its start, looking at every
    step, and `DivergedError` says in which step and layer it began. The model is then left as it
    was before that step.
    """
    x, y = to_device(x), to_device(y)
    w = model.weights.flat
    history = []

    def steps(epoch: int) -> Iterator[tuple[int, Any, Any]]:
        for i, index in enumerate(batches(len(x), batch_size, seed, epoch)):
            index = to_device(index)
            yield i, objective(model, x[index], y[index], loss, seed=_mix(seed, epoch, i)), index

    for epoch in range(epochs):
        model.train()
        start = model.state_dict(), optimizer.state_dict()
        with quiet():  # values that are not finite are looked for below
            losses = xp.stack([optimizer.step(batch, w).loss for _, batch, _ in steps(epoch)])
            values = to_host(losses)
            if not (xp.isfinite(losses).all() and xp.isfinite(w).all()):
                model.load_state_dict(start[0])
                optimizer.load_state_dict(start[1])
                for i, batch, index in steps(epoch):
                    before = w.copy()
                    trace = optimizer.step(batch, w)
                    fault = _fault(model, before, trace, x[index])
                    if fault or not bool(xp.isfinite(w).all()):
                        w[...] = before
                        raise DivergedError(
                            f"step {i + 1} of epoch {epoch + 1}: "
                            f"{fault or 'the weights overflowed'}. Lower the learning rate or "
                            "rho, warm up, or clip the gradient"
                        )
        history.append(Epoch(epoch + 1, float(values.mean())))
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


def _mix(*parts: int) -> int:
    """One seed from several whole numbers."""
    return int(Stream("mix", *parts).integers(0, 2**31, 1)[0])


def _fault(model: Module, w: Array, trace: Trace, x: Array) -> str | None:
    """What was not finite in a step that began at w, if anything."""

    def layer_at(point: Array) -> str:
        model.weights.bind(point)
        try:
            return first_not_finite(model, x)
        finally:
            model.weights.bind(model.weights.flat)

    if not bool(xp.isfinite(trace.loss)):
        point = w if trace.noise is None else w + trace.noise
        return f"the loss is {float(trace.loss)}: {layer_at(point)}"
    if trace.adversarial_loss is not None and not bool(xp.isfinite(trace.adversarial_loss)):
        value, point = float(trace.adversarial_loss), w + trace.perturbation
        return f"the loss at the perturbed weights is {value}: {layer_at(point)}"
    weights = model.weights
    for name, part in zip(weights.names, weights.views(trace.gradient)):
        if not bool(xp.isfinite(part).all()):
            return f"the gradient of {name} is not finite"
    return None


def evaluate(
    model: Module,
    x: Any,
    y: Any,
    *,
    batch_size: int = 1024,
    loss: Callable[..., Tensor] = cross_entropy,
) -> Score:
    """Mean loss and accuracy on inputs x (N, ...) with labels y (N,), in evaluation mode."""
    x, y = to_device(x), to_device(y)
    was_training = model.training
    model.eval()
    total = correct = 0.0
    try:
        with no_grad(), frozen_statistics(), quiet():
            for start in range(0, len(x), batch_size):
                part = slice(start, start + batch_size)
                scores = model(Tensor.over(x[part]))
                total += loss(scores, Tensor.over(y[part])).item() * len(x[part])
                right = (scores._data.argmax(axis=1) == y[part]) & xp.isfinite(scores._data).all(
                    axis=1
                )
                correct += float(right.sum())
    finally:
        model.train(was_training)
    return Score(total / len(x), correct / len(x))
