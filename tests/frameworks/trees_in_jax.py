"""A tree of weights and a loss of it that knows its gradient by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def quadratic(params, scale=1.0):
    """Half the squared length of all leaves, each times its own number."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    each = [jnp.sum((i + 1) * jnp.abs(leaf) ** 2) for i, leaf in enumerate(leaves)]
    return scale * sum(e.astype(jnp.float32) for e in each) / 2


grad = jax.value_and_grad(quadratic)


def some_params():
    rng = np.random.default_rng(0)
    return {"w": jnp.asarray(rng.standard_normal((3, 2)), "float32"), "b": jnp.ones(3)}
