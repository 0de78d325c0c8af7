"""A tree of weights as one flat vector, in which every filter is a run: what flatness asks for.

The leaves follow one another as in the tree. Each lies there with its outputs first, as
`rsam_ref.algorithms.noise` has it; which axes count them, ``output_axis`` says (axes.py). What is
no floating or complex number, a counter or a key, is no weight and stays what it is. Of a complex
leaf real and imaginary parts lie side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from rsam_ref.jax.axes import OutputAxis, axis_of, name_of, output_axes, shapes_of
from rsam_ref.jax.vectors import Tree


@dataclass(frozen=True)
class Place:
    """One leaf of the vector."""

    name: str
    """Its path, dotted."""
    shape: tuple[int, ...]
    """Its own shape."""
    dtype: Any
    outputs: tuple[int, ...] | None
    """The axes that count its filters; None where it is one as a whole."""
    apart: bool
    """Whether it is the biases of several layers in a stack, one along axis 0 each."""

    @property
    def size(self) -> int:
        """How many numbers of the vector it is."""
        return math.prod(self.shape) * (2 if self._is_complex else 1)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of its parts in the vector, outputs first; one, but for a stack of biases."""
        if self.outputs is None:
            return [(self.size,)]
        filters = math.prod(self.shape[axis] for axis in self.outputs)
        if self.apart:
            return [(self.size // filters,)] * filters
        return [(filters, self.size // filters)]

    @property
    def _is_complex(self) -> bool:
        return bool(jnp.issubdtype(self.dtype, jnp.complexfloating))

    @property
    def _order(self) -> tuple[int, ...]:
        """Its axes, those that count the filters first."""
        first = self.outputs or ()
        return (*first, *(axis for axis in range(len(self.shape)) if axis not in first))

    def laid_out(self, leaf: Any, dtype: Any) -> Any:
        """A leaf as it lies in the vector: (number,)."""
        leaf = jnp.transpose(jnp.asarray(leaf), self._order)
        if self._is_complex:
            leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
        return leaf.reshape(-1).astype(dtype)

    def taken_up(self, part: Any, own_type: bool) -> Any:
        """A part of the vector in the leaf's own shape, and in its own type or the vector's."""
        if self._is_complex:
            pairs = part.reshape(-1, 2)
            part = jax.lax.complex(pairs[:, 0], pairs[:, 1])
        order = self._order
        leaf = part.reshape([self.shape[axis] for axis in order])
        leaf = jnp.transpose(leaf, [order.index(axis) for axis in range(len(order))])
        return leaf.astype(self.dtype) if own_type else leaf


class Layout:
    """Where the weights of a tree lie in one vector (P,). Raises ValueError where there are none.

    >>> layout = Layout({"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]])}, output_axis=-1)
    >>> w = layout.vector({"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]])}, jnp.float32)
    >>> w.tolist(), layout.shapes
    ([1.0, 3.0, 2.0, 4.0], [(2, 2)])
    """

    def __init__(self, params: Tree, output_axis: OutputAxis = 0) -> None:
        params = jax.tree.map(_as_array, params)
        named, self._structure = jax.tree_util.tree_flatten_with_path(params)
        shapes = shapes_of(params)
        self._fixed: list[Any] = []
        self._places: list[Place | None] = []
        for path, leaf in named:
            is_weight = _is_inexact(leaf) and math.prod(leaf.shape) > 0
            self._places.append(_place(path, leaf, output_axis, shapes) if is_weight else None)
            self._fixed.append(None if is_weight else leaf)
        self.places = [place for place in self._places if place is not None]
        if not self.places:
            raise ValueError(
                "the tree has no leaf of floating or complex numbers, so its loss is a function of "
                "nothing: give the weights"
            )
        self.names = [place.name for place in self.places for _ in place.shapes]
        self.shapes = [shape for place in self.places for shape in place.shapes]
        self.size = sum(place.size for place in self.places)

    @property
    def dtype(self) -> Any:
        """The widest real type among the leaves, float32 at least."""
        parts = [jnp.finfo(place.dtype).dtype for place in self.places]
        return jnp.result_type(jnp.float32, *parts)

    def vector(self, params: Tree, dtype: Any) -> Any:
        """The weights of a tree like that as a new vector (P,)."""
        leaves = jax.tree.leaves(params)
        parts = [place.laid_out(leaf, dtype) for place, leaf in zip(self._places, leaves) if place]
        return jnp.concatenate(parts)

    def tree(self, w: Any, *, own_types: bool = True) -> Tree:
        """The tree with the weights of a vector (P,), in their own types or in the vector's."""
        leaves, start = [], 0
        for place, fixed in zip(self._places, self._fixed):
            if place is None:
                leaves.append(fixed)
            else:
                leaves.append(place.taken_up(w[start : start + place.size], own_types))
                start += place.size
        return self._structure.unflatten(leaves)


def _place(path: Any, leaf: Any, output_axis: OutputAxis, shapes: Any) -> Place:
    name = name_of(path)
    axis = axis_of(output_axis, name, leaf, shapes)
    apart = isinstance(axis, tuple) and axis == (0,) and leaf.ndim <= 2
    dotted = name.removesuffix("/value").replace("/", ".") or "w"
    return Place(dotted, leaf.shape, leaf.dtype, output_axes(axis, leaf, name), apart)


def _as_array(leaf: Any) -> Any:
    """The leaf; a number of Python's is an array as it is for `jax.grad`."""
    return jnp.asarray(leaf) if isinstance(leaf, float | complex) else leaf


def _is_inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.inexact))
