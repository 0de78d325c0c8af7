"""Batches as users of JAX have them: any trees of arrays, one or several, loaders too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_batches(given: Any) -> list[Any]:
    """One batch, or what gives several when it is gone through, as a list of batches.

    A tuple and a dict are one batch, and so is a list that begins with an array.
    """
    if isinstance(given, str | bytes):
        raise TypeError("batches is text: give a batch (x, y), a list of them, or a loader")
    if isinstance(given, int | float):
        raise TypeError(f"batches is the number {given}: give arrays, whose length counts samples")
    batches = [given] if is_one(given) else list(given)
    if not batches:
        raise ValueError("there are no batches, and a loss needs at least one sample")
    return batches


def is_one(given: Any) -> bool:
    """Whether this is one batch, and not several."""
    if isinstance(given, list):
        return bool(given) and hasattr(given[0], "shape")
    return isinstance(given, tuple | Mapping) or hasattr(given, "shape")


def count_samples(batch: Any) -> int:
    """How many samples a batch holds: the length of its last array, which is mostly the target."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(batch)]
    found = [shape for shape in shapes if shape]
    if not found:
        raise ValueError("no array in a batch tells how many samples it holds")
    return int(found[-1][0])


def placed(batch: Any, dtype: Any) -> Any:
    """The batch as JAX's arrays; floating and complex ones in a type, if one is given."""

    def each(leaf: Any) -> Any:
        array = leaf if isinstance(leaf, jax.Array) else jnp.asarray(np.asarray(leaf))
        if dtype is None or not jnp.issubdtype(array.dtype, jnp.inexact):
            return array
        is_complex = jnp.issubdtype(array.dtype, jnp.complexfloating)
        return array.astype(jnp.result_type(dtype, jnp.complex64) if is_complex else dtype)

    return jax.tree.map(each, batch)


def lengths_in(batch: Any) -> set[int]:
    """The lengths of a batch's arrays."""
    return {leaf.shape[0] for leaf in jax.tree.leaves(batch) if leaf.ndim > 0}


def joined(batch: Any, other: Any) -> Any | None:
    """A batch of the samples of both; None where their arrays do not fit."""
    if jax.tree.structure(batch) != jax.tree.structure(other):
        return None
    pairs = list(zip(jax.tree.leaves(batch), jax.tree.leaves(other)))
    if any(a.shape[1:] != b.shape[1:] or a.dtype != b.dtype for a, b in pairs):
        return None
    if not all(a.ndim or bool(a == b) for a, b in pairs):
        return None
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]) if a.ndim else a, batch, other)


def every(batch: Any, first: int, step: int) -> Any:
    """A batch of some of a batch's samples."""
    return jax.tree.map(lambda leaf: leaf[first::step] if leaf.ndim > 0 else leaf, batch)
