"""The function form: what any framework can meet, with lists of NumPy arrays.

    def train_step(weights, loss_and_grad, state, hyper):
        ...
        return weights, state

``loss_and_grad(weights)`` gives the loss and the gradients on this step's mini-batch, as often as
it is asked. ``state`` is an empty dict at first, and whatever was returned from then on. ``hyper``
holds this step's lr, momentum, weight_decay, rho, sigma, lam and eta.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from rsam_ref.conformance.observe.observer import (
    MOST_EVALUATIONS,
    BrokenError,
    Evaluation,
    NotSavedError,
    Step,
)
from rsam_ref.conformance.observe.problem import Hyper, Problem, Weights

TrainStep = Callable[..., Any]


class FunctionSubject:
    """A `train_step` function, driven. It is given copies, and may do with them what it likes."""

    form = "function"

    def __init__(
        self,
        train_step: TrainStep,
        problem: Problem,
        hyper: Hyper,
        *,
        dtype: str = "float64",
        loss_and_grad: Callable[[np.ndarray, int], tuple[float, np.ndarray]] | None = None,
    ) -> None:
        self.train_step = train_step
        self.problem = problem
        self.dtype = np.dtype(dtype)
        self.loss_and_grad = loss_and_grad or problem.loss_and_grad
        self.parts = [part.astype(self.dtype) for part in problem.parts(problem.start)]
        self.state: Any = {}

    def weights(self) -> np.ndarray:
        return self.problem.flat(self.parts)

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        def loss_and_grad(weights: Weights) -> tuple[float, Weights]:
            at = self._checked(weights, f"loss_and_grad was called in step {number + 1} with")
            if len(seen.evaluations) >= MOST_EVALUATIONS:
                raise BrokenError(
                    f"step {number + 1} called loss_and_grad more than {MOST_EVALUATIONS} times"
                )
            flat = self.problem.flat(at)
            seen.evaluations.append(Evaluation(flat, number))
            loss, gradient = self.loss_and_grad(flat, number)
            parts = [part.astype(self.dtype) for part in self.problem.parts(gradient)]
            return loss, parts

        given = [part.copy() for part in self.parts]
        result = self.train_step(given, loss_and_grad, self.state, hyper)
        if not isinstance(result, tuple) or len(result) != 2:
            what = type(result).__name__
            if isinstance(result, tuple):
                what = f"a tuple of {len(result)}"
            raise BrokenError(f"train_step must return (weights, state); it returned {what}")
        self.parts = self._checked(result[0], f"train_step returned from step {number + 1}")
        self.parts = [part.copy() for part in self.parts]
        self.state = result[1]

    def resumed(self, hyper: Hyper) -> FunctionSubject:
        """Another with these weights and a copy of the state: what is kept elsewhere is not."""
        other = copy.copy(self)
        other.parts = [part.copy() for part in self.parts]
        try:
            other.state = copy.deepcopy(self.state)
        except Exception as error:
            raise NotSavedError(
                f"the state that train_step returned cannot be copied: {error}"
            ) from None
        return other

    def _checked(self, weights: Any, doing: str) -> Weights:
        shapes = self.problem.shapes
        try:
            parts = [np.asarray(part) for part in weights]
        except Exception as error:
            raise BrokenError(
                f"{doing} {type(weights).__name__} for weights; {len(shapes)} arrays are expected "
                f"({error})"
            ) from None
        if len(parts) != len(shapes):
            raise BrokenError(f"{doing} {len(parts)} weights (arrays); {len(shapes)} are expected")
        for part, shape, name in zip(parts, shapes, self.problem.names):
            if part.shape != tuple(shape):
                raise BrokenError(
                    f"{doing} weights of shape {part.shape} for {name}, which is {tuple(shape)}"
                )
            if part.dtype.kind != "f":
                raise BrokenError(f"{doing} weights of type {part.dtype} for {name}")
        return parts
