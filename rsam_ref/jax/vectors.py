"""A tree of arrays as one vector: what the equations need of it, without a copy into one array."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
"""A pytree of JAX's arrays, of any shapes and floating or complex types."""


class Vector:
    """The weights of a tree as one vector, with the operators of `rsam_ref.algorithms.sam`.

    Every leaf keeps its type. Lengths are taken in float32 at least.
    """

    __array_ufunc__ = None  # so that NumPy's numbers leave a product to __rmul__

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def __add__(self, other: Any) -> Vector:
        return self._with(operator.add, other)

    def __mul__(self, other: Any) -> Vector:
        return self._with(operator.mul, other)

    __rmul__ = __mul__

    def __abs__(self) -> Vector:
        return Vector(jax.tree.map(jnp.abs, self.tree))

    def __matmul__(self, other: Vector) -> Any:
        """The inner product, a real number: of complex leaves that of their two parts.

        It is never quite 0, so that its root has a derivative: that of rho g / (||g|| + TINY) at
        g = 0 is rho / TINY.
        """
        kind = length_type()
        both = zip(jax.tree.leaves(self.tree), jax.tree.leaves(other.tree))
        product = sum(_dot(a, b).astype(kind) for a, b in both)
        return jnp.where(product == 0, jnp.finfo(kind).tiny, product)

    def _with(self, operate: Callable[[Any, Any], Any], other: Any) -> Vector:
        """Leaf by leaf with another vector, or every leaf with one number."""
        if isinstance(other, Vector):
            return Vector(jax.tree.map(operate, self.tree, other.tree))

        def each(leaf: Any) -> Any:
            whole = wide(leaf)
            return operate(whole, jnp.asarray(other, whole.real.dtype)).astype(leaf.dtype)

        return Vector(jax.tree.map(each, self.tree))


def length_type() -> Any:
    """float32, or float64 where that is enabled."""
    return jax.dtypes.canonicalize_dtype("float64")


def wide(leaf: Any) -> Any:
    """The leaf, in float32 at least."""
    return leaf if jnp.finfo(leaf.dtype).bits >= 32 else leaf.astype(jnp.float32)


def _dot(a: Any, b: Any) -> Any:
    """A sum and no dot product, which accelerators round to fewer digits unless they are told."""
    return jnp.sum((jnp.conj(wide(a)) * wide(b)).real)


def typed_like(weights: Tree, tree: Tree) -> Tree:
    """The tree with every leaf of the type that it has in weights."""
    return jax.tree.map(lambda w, leaf: leaf.astype(w.dtype), weights, tree)
