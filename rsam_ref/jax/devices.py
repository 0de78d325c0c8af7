"""Gradients over devices, where `jax.shard_map` knows what is the same on all of them.

There JAX sums the gradient of weights that all devices share over the devices. So the gradient of a
loss that is averaged over them is right, and the average of the gradients is the sum: too large by
the number of devices. Here each device asks for the gradient at weights of its own, and what is not
averaged yet is summed afterwards: both are right. Where nothing is known, under ``pmap``, ``vmap``
and a ``shard_map`` with ``check_vma=False``, nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from rsam_ref.jax.checks import told
from rsam_ref.jax.vectors import Tree

Axes = str | tuple[str, ...]
"""A mapped axis, or several, by name."""


def check_axes(m_sharpness: Axes | None) -> None:
    """Raise TypeError for what can name no axis."""
    names = m_sharpness if isinstance(m_sharpness, tuple) else (m_sharpness,)
    if m_sharpness is not None and not (names and all(isinstance(name, str) for name in names)):
        raise TypeError(
            "m_sharpness is the name of a mapped axis, as axis_name of jax.vmap and jax.pmap, or a "
            f"tuple of names, not {told(m_sharpness)}"
        )


def each_own(params: Tree, axes: Axes) -> Tree:
    """The same weights, but of each member of the axes its own; ValueError where none is mapped."""
    try:
        return jax.tree.map(lambda w: own(w, [axes]), params)
    except NameError:
        raise ValueError(
            f"m_sharpness={axes!r} is no mapped axis here: take the step in a function that "
            "jax.vmap or jax.pmap maps with that axis_name, or jax.shard_map over a mesh that has "
            "that axis"
        ) from None


def check_each_own(loss: Any, gradient: Tree, weights: Tree, axes: Axes) -> None:
    """Raise TypeError for what all members of the axes share, though their weights are their own.

    So it is where JAX tells: of a loss that is averaged, the gradient at weights of its own is too
    small by the number of members; of a gradient that is, every member climbs alike.
    """
    names = {axes} if isinstance(axes, str) else set(axes)
    if not names <= apart(weights):
        return
    loss = loss[0] if isinstance(loss, tuple) else loss
    alike = isinstance(loss, jax.Array) and not names <= apart(loss)
    if alike or not names <= apart(gradient):
        raise TypeError(
            f"loss_and_grad averages over {axes!r} what m_sharpness={axes!r} asks of each by "
            "itself: leave out the jax.lax.pmean, or m_sharpness"
        )


def own(w: Any, axes: Iterable[Axes]) -> Any:
    """The same array, but of each device its own: a choice by the device's number is in between."""
    for axis in axes:
        w = jnp.where(jax.lax.axis_index(axis) >= 0, w, w)
    return w


def apart(tree: Tree) -> frozenset[str]:
    """The axes along whose devices a tree's arrays are known to differ."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return frozenset[str]().union(*map(_apart, leaves))


def _apart(leaf: Any) -> frozenset[str]:
    kind = jax.typeof(leaf)
    known = getattr(kind, "mat", None)  # since JAX 0.10; `vma` is its name before
    return known.varying if known is not None else getattr(kind, "vma", frozenset())


def over_devices(
    loss_and_grad: Callable[..., tuple[Any, Tree]], params: Tree, args: tuple[Any, ...]
) -> tuple[Any, Tree]:
    """The loss and the gradient at params that devices share, of args that they do not share.

    Raises TypeError for a loss of which neither it nor its gradient is averaged.
    """
    free = jax.tree.map(lambda w: sorted(apart(args) - _apart(w)), params)
    loss, gradient = loss_and_grad(jax.tree.map(own, params, free), *args)
    of_each = apart(loss[0] if isinstance(loss, tuple) else loss)

    def summed(g: Any, w: Any, axes: list[str]) -> Any:
        g = jnp.asarray(g)
        left = [axis for axis in axes if axis in _apart(g)]
        if of_each & set(left) or of_each - _apart(g) - apart(args) - _apart(w):
            raise TypeError(
                f"loss_and_grad gives the loss of each device of {sorted(of_each)} by itself, and "
                "not its mean: average what it gives by jax.lax.pmean, and let it take the batch "
                "as an argument; or give m_sharpness"
            )
        return jax.lax.psum(g, tuple(left)) if left else g

    return loss, jax.tree.map(summed, gradient, params, free)
