"""The one flat vector that all parameters of a model live in."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rsam_backends import xp
from rsam_backends.base import Array
from rsam_ref.autograd.tensor import Leaf, Tensor
from rsam_ref.nn.initializers import Init


class Parameter(Tensor):
    """A tensor of trainable weights. It has a shape at once, and values when its model is built."""

    __slots__ = ("declared", "init", "leaf")

    def __init__(self, shape: tuple[int, ...], init: Init) -> None:
        self.declared = shape
        self.init = init
        self._data: Any = None
        self.leaf = Leaf(None)
        self.node = self.leaf

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that it was declared with, before and after the model is built."""
        return self.declared


class Weights:
    """All parameters of a model in one vector: ``flat`` (P,), to be changed in place."""

    def __init__(self, parameters: dict[str, Parameter], dtype: Any) -> None:
        self.names = list(parameters)
        self.parameters = list(parameters.values())
        self.shapes = [p.declared for p in self.parameters]
        self.slices = []
        start = 0
        for shape in self.shapes:
            self.slices.append(slice(start, start + math.prod(shape)))
            start += math.prod(shape)
        self.flat: Array = xp.empty(start, dtype=dtype)
        for p in self.parameters:
            p.node = p.leaf = Leaf(self.flat.dtype)
        self.bind(self.flat)

    def views(self, vector: Array) -> list[Array]:
        """The vector's parts in the shapes of the parameters: views, not copies."""
        return [vector[at].reshape(shape) for at, shape in zip(self.slices, self.shapes)]

    def bind(self, vector: Array) -> None:
        """Let the parameters be views into ``vector``."""
        for p, view in zip(self.parameters, self.views(vector)):
            p._data = view

    @contextmanager
    def at(self, vector: Array) -> Iterator[None]:
        """In this block the parameters are views into ``vector``: the model is looked at there."""
        self.bind(vector)
        try:
            yield
        finally:
            self.bind(self.flat)

    @contextmanager
    def gradient_into(self, vector: Array) -> Iterator[None]:
        """In this block `backward` writes the gradients into ``vector``, 0 where none came."""
        places = [(p.leaf, view) for p, view in zip(self.parameters, self.views(vector))]
        for leaf, view in places:
            leaf.buffer, leaf.written = view, False
        try:
            yield
            for leaf, view in places:
                if not leaf.written:  # the loss does not depend on this parameter
                    view[...] = 0
        finally:
            for leaf, _ in places:
                leaf.buffer = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Weights:
        """A copy whose parameters are views into its own vector."""
        copied = copy.copy(self)
        memo[id(self)] = copied
        copied.parameters = copy.deepcopy(self.parameters, memo)
        copied.flat = self.flat.copy()
        copied.bind(copied.flat)
        return copied

    @property
    def gradient(self) -> Array:
        """The parameters' gradients after `backward`, in one new vector (P,); 0 where none came."""
        vector = xp.zeros_like(self.flat)
        for p, view in zip(self.parameters, self.views(vector)):
            if p.grad is not None:
                view[...] = p.grad
        return vector
