"""JAX's types: float64 where it is given that, and keys of its random generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@contextmanager
def double() -> Iterator[None]:
    """Inside, JAX computes in float64 where it is given that."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def is_key(leaf: Any) -> bool:
    """Whether this is a key, of the new kind or the old."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return False
    if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return True
    return dtype == np.uint32 and np.shape(leaf) == (2,)


def is_number(tree: Any) -> bool:
    """Whether this is a number, or a collection of numbers only, as losses and metrics are."""
    leaves = jax.tree.leaves(tree)
    return bool(leaves) and all(np.ndim(leaf) == 0 and not is_key(leaf) for leaf in leaves)


def is_like(tree: Any, other: Any) -> bool:
    """Whether two trees have the same structure, and leaves of the same shapes."""
    a, b = jax.tree.flatten(tree), jax.tree.flatten(other)
    return a[1] == b[1] and all(np.shape(x) == np.shape(y) for x, y in zip(a[0], b[0]))


def copied(tree: Any) -> Any:
    """A tree with arrays of its own: a step may take the memory of those that it is given."""
    return jax.tree.map(lambda leaf: jnp.array(leaf) if _is_array(leaf) else leaf, tree)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)
