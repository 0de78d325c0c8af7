"""The optax transformation that a JAX training step uses as its base, stepped on a shadow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rsam_ref.conformance.observe.base import Settings
from rsam_ref.conformance.observe.jax_types import double


class JaxBase:
    """A transformation, and how a flat vector becomes a tree that it takes."""

    name = "its optax transformation"

    def __init__(
        self,
        tx: Any,
        tree: Callable[[np.ndarray], Any],
        flat: Callable[[Any], np.ndarray],
        start: np.ndarray,
    ) -> None:
        self.tx, self.tree, self.flat = tx, tree, flat
        self.start = start

    def shadow(self) -> JaxShadow:
        return JaxShadow(self)


class JaxShadow:
    """The transformation with a state of its own."""

    def __init__(self, base: JaxBase) -> None:
        self.base = base
        with double():
            self.state = base.tx.init(base.tree(base.start))
        self.update = jax.jit(base.tx.update)

    def step(self, w: np.ndarray, g: np.ndarray, settings: Settings) -> np.ndarray:
        with double():
            params, grads = self.base.tree(w), self.base.tree(g)
            updates, self.state = self.update(grads, self.state, params)
            moved = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)
        return self.base.flat(moved)
