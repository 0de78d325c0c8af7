"""SGD as PyTorch has it, as an optax transformation that keeps its settings in its state.

So the transformation is one and the same whatever its settings are, and what JAX has compiled with
it is used again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsam_ref.conformance.observe.problem import Hyper


class Transformation(NamedTuple):
    """What optax takes for a transformation."""

    init: Callable[..., Any]
    update: Callable[..., Any]


class SgdState(NamedTuple):
    """The settings of a step, and the velocity."""

    lr: Any
    momentum: Any
    weight_decay: Any
    velocity: Any


def _init(params: Any) -> SgdState:
    velocity = jax.tree.map(jnp.zeros_like, params)
    return _state(Hyper(), jax.tree.leaves(params)[0].dtype, velocity)


def _state(hyper: Hyper, dtype: Any, velocity: Any) -> SgdState:
    settings = (hyper.lr, hyper.momentum, hyper.weight_decay)
    lr, momentum, weight_decay = (jnp.asarray(value, dtype) for value in settings)
    return SgdState(lr, momentum, weight_decay, velocity)


def _moved(grads: Any, state: SgdState) -> tuple[Any, SgdState]:
    velocity = jax.tree.map(lambda v, g: state.momentum * v + g, state.velocity, grads)
    updates = jax.tree.map(lambda v: -state.lr * v, velocity)
    return updates, state._replace(velocity=velocity)


def _with_decay(grads: Any, state: SgdState, params: Any = None, **_: Any) -> Any:
    if params is None:
        raise ValueError("weight decay needs the weights: tx.update(grads, opt_state, params)")
    decayed = jax.tree.map(lambda g, p: g + state.weight_decay * p, grads, params)
    return _moved(decayed, state)


def _without_decay(grads: Any, state: SgdState, params: Any = None, **_: Any) -> Any:
    return _moved(grads, state)


SGD = Transformation(_init, _with_decay)
SGD_WITHOUT_DECAY = Transformation(_init, _without_decay)
"""For steps that do not pass the weights on to ``update``."""


def with_settings(tree: Any, hyper: Hyper) -> Any:
    """A tree in which every state of these has other settings."""

    def written(node: Any) -> Any:
        held = isinstance(node, SgdState)
        return _state(hyper, node.lr.dtype, node.velocity) if held else node

    return jax.tree.map(written, tree, is_leaf=lambda node: isinstance(node, SgdState))
