"""Trees of which only some leaves are trained: the others are None in the part that is."""

from __future__ import annotations

from typing import Any

import jax

from rsam_ref.jax.vectors import Tree


def mask_of(trainable: Any, params: Tree) -> Tree:
    """The mask, as optax has them: None for all, a tree of bools, or a function of params."""
    return trainable(params) if callable(trainable) else trainable


def part_of(tree: Tree, mask: Tree) -> Tree:
    """The tree with None for what the mask leaves out; a bool may stand for a whole branch."""
    if mask is None:
        return tree
    try:
        return jax.tree.map(
            lambda keep, branch: jax.tree.map(lambda leaf: leaf if keep else None, branch),
            mask,
            tree,
        )
    except ValueError:
        raise ValueError(
            "the mask `trainable` must be a tree of bools like params, where one bool may stand "
            f"for a branch; it is {jax.tree.structure(mask)}"
        ) from None


def joined(part: Tree, tree: Tree) -> Tree:
    """The part, and for its None what is there in the tree."""
    return jax.tree.map(
        lambda leaf, other: other if leaf is None else leaf,
        part,
        tree,
        is_leaf=lambda leaf: leaf is None,
    )
