"""The training loop: batches in a fixed order, metrics read once an epoch, faults explained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rsam_backends import Stream, quiet, to_device, to_host, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.optimizer import Optimizer
from rsam_ref.algorithms.sam import Trace
from rsam_ref.autograd.errors import ShapeError
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.data.feed import batches
from rsam_ref.nn.batch_parts import Accumulated
from rsam_ref.nn.faults import INPUTS_NOT_FINITE, check_targets
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import Objective, objective
from rsam_ref.nn.outputs import outputs_of


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
    parts: int = 1,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train on inputs x (N, ...) and targets y, on the host or the device, in place.

    With ``parts``, mini-batches are taken in so many (`Accumulated`), which m-SAM asks for.

    An epoch is one call of `run_steps`, which see for what happens when values stop being finite.
    (`rsam-ref train`, with data of any size and checkpoints, is in run.py.)
    """
    x, y = to_device(x), to_device(y)
    _check_samples(x, y, batch_size)

    def one_epoch(epoch: int) -> Epoch:
        order = list(batches(len(x), batch_size, seed, epoch))
        first = epoch * len(order)  # the number of its first step

        def batch(step: int) -> Objective:
            i = step - first
            index = to_device(order[i])
            of_step = mix(seed, epoch, i)
            if parts > 1:
                seeds = [mix(of_step, part) for part in range(min(parts, len(order[i])))]
                return Accumulated(model, x[index], y[index], loss, seeds)
            return objective(model, x[index], y[index], loss, seed=of_step)

        model.train()
        steps = range(first, first + len(order))
        losses = run_steps(model, optimizer, batch, steps, per_epoch=len(order))
        return Epoch(epoch + 1, float(losses[0].mean()))

    history = []
    for epoch in range(epochs):
        history.append(one_epoch(epoch))
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


def run_steps(
    model: Module,
    optimizer: Optimizer,
    batch: Callable[[int], Objective],
    steps: range,
    per_epoch: int,
    stop: Callable[[], bool] = lambda: False,
    on_twice: Callable[[int], None] = lambda step: None,
) -> Any:
    """Take the steps of these numbers, step i on ``batch(i)``, until ``stop()`` says so.

    Returns the losses on the host: (1, steps taken) those of the first pass, (2, steps taken) with
    the adversarial ones below them where the method has a second pass.

    The steps run without waiting for the device; then their losses are read. If one is not finite,
    or the weights are not, they are run again from the first, looking at every one, and
    `DivergedError` says in which step and layer it began (``per_epoch`` steps make an epoch). The
    model and the optimizer are then left as they were before that step. Where all is finite the
    second time, the model or the loss does not depend on weights and samples alone: these steps
    and their losses count, and ``on_twice`` is told the first of them.
    """
    w = model.weights.flat
    start = model.state_dict(), optimizer.state_dict()
    taken: list[tuple[Any, ...]] = []
    with quiet():  # values that are not finite are looked for below
        for i in steps:
            if stop():
                break
            taken.append(_losses(optimizer.step(batch(i), w)))
        if not taken:
            return xp.zeros((1, 0))
        losses = _rows(taken)
        if not (xp.isfinite(losses).all() and xp.isfinite(w).all()):
            model.load_state_dict(start[0])
            optimizer.load_state_dict(start[1])
            again = [
                _losses(_watched_step(model, optimizer, batch(i), i, per_epoch))
                for i in steps[: len(taken)]
            ]
            losses = _rows(again)
            on_twice(steps[0])
    return to_host(losses)


def _losses(trace: Trace) -> tuple[Any, ...]:
    """The loss of the first pass, and of the second where there is one, on the device."""
    return tuple(loss for loss in (trace.loss, trace.adversarial_loss) if loss is not None)


def _rows(taken: list[tuple[Any, ...]]) -> Any:
    """The losses of all steps, (1 or 2, steps)."""
    return xp.stack([xp.stack(row) for row in zip(*taken)])


def _watched_step(
    model: Module, optimizer: Optimizer, batch: Objective, step: int, per_epoch: int
) -> Trace:
    """One step, with a `DivergedError`, and everything as before, if a value is not finite."""
    w = model.weights.flat
    before, model_before, optimizer_before = w.copy(), model.state_dict(), optimizer.state_dict()
    trace = optimizer.step(batch, w)

    def put_back() -> None:
        model.load_state_dict(model_before)
        optimizer.load_state_dict(optimizer_before)

    try:
        fault = _fault(before, trace, batch)
    except ShapeError:  # it is the targets
        put_back()
        raise
    if fault or not bool(xp.isfinite(w).all()):
        put_back()
        epoch, i = divmod(step, per_epoch)
        remedy = "Lower the learning rate or rho, warm up, or clip the gradient"
        if fault and fault.endswith(INPUTS_NOT_FINITE):
            remedy = "Look at the data"
        raise DivergedError(
            f"step {i + 1} of epoch {epoch + 1}: {fault or 'the weights overflowed'}. {remedy}"
        )
    return trace


def mix(*parts: int) -> int:
    """One seed from several whole numbers."""
    return int(Stream("mix", *parts).integers(0, 2**31, 1)[0])


def _fault(w: Array, trace: Trace, batch: Objective) -> str | None:
    """What was not finite in a step that began at w, if anything."""

    def layer_at(point: Array) -> str:
        found = batch.first_not_finite(point)
        return found or "every layer's output is finite; the loss itself is not"

    if not bool(xp.isfinite(trace.loss)):
        point = w if trace.noise is None else w + trace.noise
        if trace.ascent_gradient is None and trace.perturbation is not None:  # no other pass
            point = w + trace.perturbation
        return f"the loss is {float(trace.loss)}: {layer_at(point)}"
    if trace.adversarial_loss is not None and not bool(xp.isfinite(trace.adversarial_loss)):
        value = float(trace.adversarial_loss)
        point = w if trace.perturbation is None else w + trace.perturbation  # per worker
        return f"the loss at the perturbed weights is {value}: {layer_at(point)}"
    weights = batch.model.weights
    for name, part in zip(weights.names, weights.views(trace.gradient)):
        if not bool(xp.isfinite(part).all()):
            return f"the gradient of {name} is not finite"
    return None


def _check_samples(x: Array, y: Array, batch_size: int) -> None:
    if len(x) != len(y):
        raise ShapeError(f"{len(x)} inputs and {len(y)} targets: give one target for every input")
    if len(x) == 0:
        raise ShapeError("there are no samples")
    if not hasattr(batch_size, "__index__") or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number >= 1, not {batch_size}")


def evaluate(
    model: Module,
    x: Any,
    y: Any,
    *,
    batch_size: int = 1024,
    loss: Callable[..., Tensor] = cross_entropy,
) -> Score:
    """Mean loss and accuracy on inputs x (N, ...) with labels y (N,), in evaluation mode.

    Raises ShapeError for labels that are none of the model's classes.
    """
    x, y = to_device(x), to_device(y)
    _check_samples(x, y, batch_size)
    parts = [slice(start, start + batch_size) for start in range(0, len(x), batch_size)]
    found = score(model, ((x[part], y[part]) for part in parts), loss)
    if found.loss != found.loss:  # nan: then nothing is lost by looking
        with model.in_mode(False):
            for part in parts:
                check_targets(model, Tensor.over(x[part]), Tensor.over(y[part]), loss)
    return found


def score(
    model: Module, samples: Iterable[tuple[Any, Any]], loss: Callable[..., Tensor] = cross_entropy
) -> Score:
    """Mean loss and accuracy on batches (inputs, labels) of samples, in evaluation mode.

    What is summed stays on the device until the last batch is done.
    """
    return added_up(batch_scores(model, samples, loss))


BatchScore = tuple[int, Any, Any]
"""Of a batch: how many samples, the sum of their losses, how many are correct."""


def batch_scores(
    model: Module, samples: Iterable[tuple[Any, Any]], loss: Callable[..., Tensor]
) -> Iterator[BatchScore]:
    """What each batch of samples adds to a score; the sums are on the device."""
    with no_grad(), quiet():
        for x, y in samples:
            y = to_device(y)
            if y.ndim != 1:
                raise ShapeError(f"accuracy needs labels (N,), not targets of shape {y.shape}")
            scores = outputs_of(model, x)
            total = loss(scores, Tensor.over(y))._data * len(x)
            finite = xp.isfinite(scores._data).all(axis=1)
            yield len(x), total, ((scores._data.argmax(axis=1) == y) & finite).sum()


def added_up(parts: Iterable[BatchScore]) -> Score:
    """The score of all samples in these batches, added up in their order."""
    n, total, correct = 0, xp.zeros(()), xp.zeros(())
    with quiet():
        for samples, losses, right in parts:
            n, total, correct = n + samples, total + losses, correct + right
    return Score(float(total) / n, float(correct) / n)
