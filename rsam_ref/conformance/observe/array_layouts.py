"""What weights and gradients are to a step on NumPy arrays: a list, one flat vector, or a dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rsam_backends.base import kind_of
from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.observe.problem import Problem, Weights

LISTS, VECTOR, DICT = "a list of arrays", "one flat vector", "a dict of arrays"


class Layout:
    """One of the three, for the weights of a problem."""

    def __init__(self, kind: str, problem: Problem, dtype: np.dtype[Any]) -> None:
        self.kind, self.problem, self.dtype = kind, problem, dtype
        self.names, self.shapes = problem.names, [tuple(shape) for shape in problem.shapes]
        if kind == VECTOR:
            self.names, self.shapes = ["the vector"], [problem.start.shape]

    def split(self, vector: np.ndarray) -> Weights:
        """The parts of a vector (P,), copies in this precision; as a vector it is the only one."""
        parts = [vector] if self.kind == VECTOR else self.problem.parts(vector)
        return [part.astype(self.dtype) for part in parts]

    def given(self, parts: Weights) -> Any:
        """The parts as a step gets them."""
        if self.kind == VECTOR:
            return parts[0]
        return dict(zip(self.names, parts)) if self.kind == DICT else parts

    def parts(self, weights: Any, doing: str) -> Weights:
        """The parts of what a step gave; `BrokenError` for anything else than weights."""
        if self.kind == VECTOR:
            if isinstance(weights, list | tuple):  # one number a weight, as a loop over w makes it
                raise BrokenError(f"{doing} {kind_of(weights)}, and no vector of weights")
            weights = [weights]
        elif self.kind == DICT:
            if not isinstance(weights, Mapping) or set(weights) != set(self.names):
                raise BrokenError(
                    f"{doing} {type(weights).__name__} for weights; a dict of "
                    f"{', '.join(self.names)} is expected"
                )
            weights = [weights[name] for name in self.names]
        try:
            parts = [np.asarray(part) for part in weights]
        except Exception as error:
            raise BrokenError(
                f"{doing} {type(weights).__name__} for weights; {len(self.shapes)} arrays are "
                f"expected ({error})"
            ) from None
        if len(parts) != len(self.shapes):
            expected = f"{len(self.shapes)} are expected"
            raise BrokenError(f"{doing} {len(parts)} weights (arrays); {expected}")
        for part, shape, name in zip(parts, self.shapes, self.names):
            if part.shape != shape:
                raise BrokenError(
                    f"{doing} weights of shape {part.shape} for {name}, which is {shape}"
                )
            if part.dtype.kind != "f":
                raise BrokenError(f"{doing} weights of type {part.dtype} for {name}")
        return parts

    def flat(self, weights: Any) -> np.ndarray | None:
        """The same as one vector (P,) of float64; None for anything else than weights."""
        holds = isinstance(weights, list | tuple | Mapping)
        if not (holds or hasattr(weights, "__array__")):
            return None
        try:
            return self.problem.flat(self.parts(weights, ""))
        except BrokenError:
            return None
