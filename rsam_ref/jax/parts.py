"""Trees of which only some leaves are trained: the others are None in the part that is."""

from __future__ import annotations

from typing import Any

import jax

from rsam_ref.algorithms.settings import is_traced
from rsam_ref.jax.checks import told
from rsam_ref.jax.vectors import Tree


def check_trainable(trainable: Any) -> None:
    """Raise TypeError for what is neither None, nor a tree of bools, nor a function."""
    if not callable(trainable):
        _check_mask(trainable)


def mask_of(trainable: Any, params: Tree) -> Tree:
    """The mask, as optax has them: None for all, a tree of bools, or a function of params.

    A module whose leaves are bools is a tree of bools, though it can be called.
    """
    mask = trainable(params) if callable(trainable) and _no_bool(trainable) else trainable
    _check_mask(mask)
    return mask


def _check_mask(mask: Tree) -> None:
    if mask is not None and _no_bool(mask):
        raise TypeError(
            "trainable is a tree of bools like params, or a function of params that gives one; it "
            f"has {_no_bool(mask)}"
        )


def _no_bool(tree: Tree) -> str | None:
    """The first leaf that is no bool, in words; None where all are."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for path, leaf in leaves:
        of_array = (
            str(getattr(leaf, "dtype", "")) == "bool" and not is_traced(leaf) and leaf.ndim == 0
        )
        if not isinstance(leaf, bool) and not of_array:
            return f"{told(leaf)} at trainable{jax.tree_util.keystr(path)}"
    return None if leaves else "no leaf"


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
        ours, theirs = type(mask).__name__, type(tree).__name__
        found = f"a {ours} where params is a {theirs}: make a {theirs} of it, or give a function"
        raise ValueError(
            "the mask `trainable` must be a tree of bools like params, where one bool may stand "
            f"for a branch; it is {jax.tree.structure(mask) if ours == theirs else found}"
        ) from None


def joined(part: Tree, tree: Tree) -> Tree:
    """The part, and for its None what is there in the tree."""
    return jax.tree.map(
        lambda leaf, other: other if leaf is None else leaf,
        part,
        tree,
        is_leaf=lambda leaf: leaf is None,
    )
