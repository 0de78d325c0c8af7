"""What is seen of an implementation: where it evaluates the gradient, and where it lands.

Nothing else: no hook in its code, so it may be written in any framework. A *subject* is an
implementation under its adapter (see function_form.py and torch_forms.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rsam_ref.conformance.observe.base import BaseSeen
from rsam_ref.conformance.observe.problem import BATCH, Hyper, Problem

MOST_EVALUATIONS = 60
"""Evaluations in one step after which an implementation is stopped."""


class BrokenError(Exception):
    """The implementation cannot be judged. The message says what it did, and where, in one line."""

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).split()))


class NotSavedError(BrokenError):
    """The state cannot be copied, or there is no way to save it: nothing is told of resuming."""


class RaisedError(BrokenError):
    """The implementation itself raised something."""


@dataclass(frozen=True)
class Evaluation:
    """The gradient was evaluated at the flat weights ``at`` (P,) on the mini-batch of ``batch``.

    ``rows`` are the samples of it that took part, where they were not all.
    """

    at: np.ndarray
    batch: int
    rows: frozenset[int] | None = None
    lowered_to: str | None = None
    """The type that torch.autocast runs it in, where it is under one."""


@dataclass
class ScalerSeen:
    """What a step does with gradient scalers."""

    scalers: list[Any] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    """What a loss was multiplied by, each time."""
    updates: int = 0


@dataclass
class Step:
    """One step as it was seen. All vectors are flat, (P,)."""

    number: int
    hyper: Hyper
    before: np.ndarray
    evaluations: list[Evaluation] = field(default_factory=list)
    after: np.ndarray = field(default_factory=lambda: np.empty(0))
    base: BaseSeen = field(default_factory=BaseSeen)
    """What is known of the base optimizer."""
    returned: Any = None
    """What the step gave back to its caller, where that may be a loss."""
    scaler: ScalerSeen = field(default_factory=ScalerSeen)


class Subject(Protocol):
    """An implementation that can be driven step by step."""

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        """Take a step on the mini-batch of that number; add the evaluations to ``seen``."""

    def weights(self) -> np.ndarray:
        """The weights (P,), a copy."""

    def resumed(self, hyper: Hyper) -> Subject:
        """Another subject, with these weights and the state that can be saved."""


def watch(
    subject: Subject, hypers: list[Hyper], first: int = 0, progress: Callable[[], Any] | None = None
) -> list[Step]:
    """Let a subject take a step with each of these settings."""
    steps = []
    for number, hyper in enumerate(hypers, start=first):
        seen = Step(number, hyper, subject.weights())
        subject.step(number, hyper, seen)
        seen.after = subject.weights()
        steps.append(seen)
        if progress:
            progress()
    return steps


AT_W = "evaluations at w that nothing needs"
AT_END = "evaluations after the step"

Samples = tuple[int, frozenset[int] | None]


def _joined(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Neighbours at one place, on different rows of one mini-batch, as one evaluation."""
    joined: list[Evaluation] = []
    for new in evaluations:
        old = joined[-1] if joined else None
        if (
            old is not None
            and old.rows is not None
            and new.rows is not None
            and not old.rows & new.rows
            and old.batch == new.batch
            and np.array_equal(old.at, new.at)
        ):
            rows = old.rows | new.rows
            joined[-1] = Evaluation(old.at, old.batch, None if len(rows) == BATCH else rows)
        else:
            joined.append(new)
    return joined


class Seen:
    """A step with what the judgement needs: gradients at the observed points, each computed once.

    ``points`` are the places where the gradient was evaluated, without repetitions.
    """

    def __init__(self, problem: Problem, step: Step) -> None:
        self.problem = problem
        self.number = step.number
        self.hyper = step.hyper
        self.w = step.before
        self.after = step.after
        self.base = step.base
        self.scale = step.scaler.factors[0] if step.scaler.factors else None
        self.repeated = 0
        self.points: list[np.ndarray] = []
        self.batches: list[Samples] = []
        for evaluation in _joined(step.evaluations):
            samples = evaluation.batch, evaluation.rows
            if any(
                np.array_equal(evaluation.at, at) and samples == other
                for at, other in zip(self.points, self.batches)
            ):
                self.repeated += 1
                continue
            self.points.append(evaluation.at)
            self.batches.append(samples)
        self._gradients: dict[int, np.ndarray] = {}

    def forget_looks(self) -> dict[str, int]:
        """Leave out gradients beyond two that nothing uses: the last ones, where they are taken
        where the step ends, or at w. How many of each there were.
        """
        found: dict[str, int] = {}
        for kind, at in ((AT_END, self.after), (AT_W, self.w)):
            if len(self.points) > 2 and np.array_equal(self.points[-1], at):
                self.forget(len(self.points) - 1)
                found[kind] = 1
        return found

    def forget_looks_at_w(self) -> int:
        """Leave out gradients at w beside two or more that are taken elsewhere; how many."""
        at_w = [i for i, point in enumerate(self.points) if np.array_equal(point, self.w)]
        if len(self.points) - len(at_w) < 2:
            return 0
        for i in reversed(at_w):
            self.forget(i)
        return len(at_w)

    def forget(self, i: int) -> None:
        del self.points[i], self.batches[i]
        self._gradients.clear()

    def gradient(self, i: int) -> np.ndarray:
        """The gradient at the i-th point, on the batch that was used there."""
        i %= len(self.points)
        if i not in self._gradients:
            found = self.problem.loss_and_grad(self.points[i], *self.batches[i], self.number)
            self._gradients[i] = found[1]
        return self._gradients[i]

    def take_together(self, gradient: np.ndarray) -> None:
        """Several points, each of a part of the mini-batch, as one: the last, with a gradient."""
        _, first = self.problem.loss_and_grad(self.w, self.number)
        self.points, self.batches = [self.w, self.points[-1]], [(self.number, None)] * 2
        self._gradients = {0: first, 1: gradient}

    @property
    def last(self) -> np.ndarray:
        """Where the last gradient was taken."""
        return self.points[-1]


def resolution(steps: list[Step]) -> float:
    """The precision that the implementation keeps the weights in: 2^-53, or 2^-24 for float32."""
    seen = [e.at for step in steps for e in step.evaluations] + [step.after for step in steps]
    moved = [v for v in seen if not np.array_equal(v, steps[0].before)]
    with np.errstate(over="ignore"):
        single = all(np.array_equal(v, v.astype(np.float32)) for v in moved)
    return 2.0**-24 if single and moved else 2.0**-53
