"""What is given, and in one line what is wrong with it: weights, gradients, bases and states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rsam_ref.jax.vectors import Tree

LOSS_AND_GRAD = (
    "loss_and_grad must give the loss and its gradient, a tree like params, as "
    "jax.value_and_grad(loss) does"
)
GRAD_FN = "grads and grad_fn(params, i) must be gradients, trees like params"
SEARCHES = {"ScaleByZoomLinesearchState", "ScaleByBacktrackingLinesearchState"}
INSIDE = "finds its own gradient, so that of the one inside would be ignored"


def told(value: Any) -> str:
    """A value in a few words."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array of {value.dtype} with shape {tuple(value.shape)}"
    plain = value is None or isinstance(value, bool | int | float | str)
    return repr(value) if plain else type(value).__name__


# Weights


def as_weights(params: Tree) -> Tree:
    """The tree with arrays for leaves.

    Raises
    ------
    TypeError:
        for a leaf that has no gradient, and for what is no tree of weights.
    ValueError:
        for a tree without leaves.
    """
    if any(kind.__module__ == "flax.nnx.module" for kind in type(params).__mro__):
        raise TypeError(
            f"params is a module, {type(params).__name__}: split its weights off, "
            "graph, params, rest = nnx.split(model, nnx.Param, ...)"
        )
    if any(isinstance(leaf, optax.MaskedNode) for leaf in jax.tree.leaves(params, is_leaf=_masked)):
        raise TypeError(
            "params are masked by a wrapper of optax, so that no loss could be taken at them; "
            "give the mask as `trainable`, and optax.partition or optax.masked as the base"
        )
    if not jax.tree.leaves(params):
        raise ValueError(
            "params has no leaf that could be trained; give a tree of arrays, and True for some of "
            "them where there is a mask `trainable`"
        )
    return jax.tree_util.tree_map_with_path(_weight, params)


def _masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _weight(path: Any, leaf: Any) -> Any:
    kind = getattr(leaf, "dtype", None)
    kind = jnp.result_type(leaf) if isinstance(leaf, int | float | complex) else kind
    if kind is not None and jnp.issubdtype(kind, jnp.inexact):
        return jnp.asarray(leaf)
    where = f"params{jax.tree_util.keystr(path)}"
    if callable(leaf) and not path:
        raise TypeError(f"{where} is a function; the order is loss_and_grad, params, and the rest")
    if kind is None:
        raise TypeError(
            f"{where} is {'a function' if callable(leaf) else told(leaf)}; give the arrays alone, "
            "of a module by equinox.partition(model, equinox.is_inexact_array)"
        )
    raise TypeError(
        f"{where} is {kind}, of which there is no gradient; keep it out of params, or mask it by "
        "`trainable` and give jax.value_and_grad(loss, allow_int=True)"
    )


# Trees like the weights


def unlike(tree: Tree, weights: Tree) -> str | None:
    """Where a tree is another than the weights, or has another shape; None where it is alike."""
    found, expected = _shapes(tree), _shapes(weights)
    for path in expected:
        if path not in found:
            return f"lacks params{path}"
    for path, shape in found.items():
        if path not in expected:
            return f"has a leaf {path or 'alone'}, which is none of params'"
        if shape != expected[path]:
            return f"has shape {shape} for params{path}, whose shape is {expected[path]}"
    if jax.tree.structure(tree) != jax.tree.structure(weights):
        return "has its leaves in containers of another type"
    return None


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(getattr(leaf, "shape", ())) for path, leaf in leaves}


def check_like(asked: str, tree: Tree, weights: Tree) -> None:
    """Raise TypeError for a tree that is not like the weights, as ``asked`` says."""
    fault = unlike(tree, weights)
    if fault:
        raise TypeError(f"{asked}; it {fault}")


def pair_of(
    result: Any,
    weights: Tree,
    take: Callable[[Tree], Tree] = lambda tree: tree,
    asked: str = LOSS_AND_GRAD,
) -> tuple[Any, Tree]:
    """The loss and the gradient, if that is what came back.

    ``take`` is what is done to a gradient before it is one like the weights.
    """

    def fault(tree: Tree) -> str | None:
        try:
            return unlike(take(tree), weights)
        except ValueError:
            return "is of another structure"

    pair = isinstance(result, tuple) and len(result) == 2
    if pair and fault(result[1]) is None:
        return result[0], take(result[1])
    if fault(result) is None:
        instead = "the gradient alone"
    elif pair and fault(result[0]) is None:
        instead = "the gradient first"
    elif pair:
        instead = f"a gradient that {fault(result[1])}"
    elif getattr(result, "shape", None) == ():
        instead = "a number alone"
    else:
        instead = told(result)
    raise TypeError(f"{asked}; it gave {instead}")


def check_function(loss_and_grad: Any) -> None:
    """Raise TypeError for what cannot be called."""
    if not callable(loss_and_grad):
        raise TypeError(
            f"loss_and_grad must be a function, as jax.value_and_grad(loss), not "
            f"{told(loss_and_grad)}; the order is loss_and_grad, params, and the rest"
        )


# Bases and states


def transformation(name: str, base: Any, ours: type) -> optax.GradientTransformationExtraArgs:
    """The base as a transformation that takes any arguments, if it can be one."""
    if isinstance(base, optax.MultiSteps):
        base = base.gradient_transformation()
    if isinstance(base, ours):
        raise TypeError(f"{name} {INSIDE}; give it an optimizer such as optax.sgd(0.1)")
    if not isinstance(base, optax.GradientTransformation):
        raise TypeError(
            f"{name} wraps an optimizer of optax, such as optax.sgd(0.1), not {told(base)}"
        )
    return optax.with_extra_args_support(base)


def check_base_state(name: str, state: Tree) -> None:
    """Raise TypeError for the first state of a base that cannot be one."""
    refused = {*SEARCHES, "SAMState", "LookaheadState"}
    nodes = jax.tree.leaves(state, is_leaf=lambda node: type(node).__name__ in refused)
    kinds = {type(node).__name__ for node in nodes}
    if kinds & SEARCHES:
        raise TypeError(
            f"{name} has no losses for a line search: those along its gradient, which is another "
            "point's, decide nothing; give a base without one, such as optax.sgd(0.1)"
        )
    if "LookaheadState" in kinds:
        raise TypeError(
            f"optax.lookahead moves pairs of weights, of which {name} knows one; leave it out, and "
            "move the slow ones every few steps by optax.incremental_update"
        )
    if "SAMState" in kinds:
        raise TypeError(f"{name} {INSIDE}; give it an optimizer such as optax.sgd(0.1)")


def check_base_fits(name: str, state: Tree, expected: Tree) -> None:
    """Raise TypeError for a base's state that its init would not have made of these weights."""
    alike = jax.tree.structure(state) == jax.tree.structure(expected)
    shapes = (
        jnp.shape(a) == jnp.shape(b)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected))
    )
    if not alike or not all(shapes):
        raise TypeError(
            f"state is that of another base, or of other params: give {name} what init(params) of "
            "this transformation made"
        )
