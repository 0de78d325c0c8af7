"""A function that is computed on the host, and that JAX can trace and differentiate twice.

A gradient is taken where the backward pass asks for it, so that one which is computed twice to save
memory (`jax.checkpoint`) is one. Its own derivative is there too: by it a gradient through the
perturbation (SAM without `stop_gradient`) is computed as it was written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsam_ref.conformance.observe.differences import derivative
from rsam_ref.conformance.observe.observer import BrokenError


class OnHost(NamedTuple):
    """A function of the weights, flat (P,) in float64, and of inputs x; all NumPy arrays."""

    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    pulled_back: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """From the gradient at the value, of the value's shape, that at the weights: (P,)."""
    flat: Callable[[Any], np.ndarray]
    """A tree of weights as a vector (P,)."""
    tree: Callable[[np.ndarray, Any], Any]
    """A vector (P,) as a tree like another."""
    seen: Callable[[np.ndarray, np.ndarray], None]
    """Called with weights and inputs wherever a gradient is taken."""


def traced(function: OnHost, shape_of: Callable[[Any, Any], tuple[int, ...]]) -> Any:
    """It as a function of a tree of weights and of inputs.

    ``shape_of`` tells the value's shape for both; its type is that of the weights.
    """

    def value(params: Any, x: Any) -> Any:
        shape = jax.ShapeDtypeStruct(shape_of(params, x), _type(params))
        return _called(compute, shape, params, x)

    def forward(params: Any, x: Any) -> Any:
        return differentiable(params, x), (params, x)

    def backward(kept: Any, seed: Any) -> Any:
        params, x = kept
        return pulled_back(params, x, seed), jnp.zeros_like(x)

    def pull(params: Any, x: Any, seed: Any) -> Any:
        return _called(compute_pulled, jax.tree.map(_shape, params), params, x, seed)

    def pull_forward(params: Any, x: Any, seed: Any) -> Any:
        return pulled_back(params, x, seed), (params, x, seed)

    def pull_backward(kept: Any, along: Any) -> Any:
        params, x, seed = kept
        shapes = jax.tree.map(_shape, params), _shape(seed)
        by_params, by_seed = _called(compute_along, shapes, params, x, seed, along)
        return by_params, jnp.zeros_like(x), by_seed

    differentiable = jax.custom_vjp(value)
    differentiable.defvjp(forward, backward)
    pulled_back = jax.custom_vjp(pull)
    pulled_back.defvjp(pull_forward, pull_backward)

    def compute(params: Any, x: Any) -> Any:
        found = function.value(function.flat(params), np.asarray(x, float))
        return np.asarray(found, _type(params))

    def compute_pulled(params: Any, x: Any, seed: Any) -> Any:
        w, x = function.flat(params), np.asarray(x, float)
        function.seen(w, x)
        return function.tree(function.pulled_back(w, x, np.asarray(seed, float)), params)

    def compute_along(params: Any, x: Any, seed: Any, along: Any) -> Any:
        """The derivatives of ``(along * pulled_back).sum()``: the Hessian is symmetric, and what is
        linear in the seed is the value's derivative.
        """
        w, u = function.flat(params), function.flat(along)
        x, seed = np.asarray(x, float), np.asarray(seed)
        by_w = derivative(lambda at: function.pulled_back(at, x, seed.astype(float)), w, u)
        by_seed = derivative(lambda at: function.value(at, x), w, u)
        return function.tree(by_w, params), np.asarray(by_seed, seed.dtype)

    return differentiable


NOT_DIFFERENTIATED = ("do not support JVP", "forward-mode", "rule for 'custom_lin'")
"""What JAX says of a derivative that is not there."""


def explained(error: Exception, number: int) -> BrokenError | None:
    """What to do where the step took a derivative that cannot be seen; None for other errors."""
    if not any(said in str(error) for said in NOT_DIFFERENTIATED):
        return None
    return BrokenError(
        f"step {number + 1} took a derivative of the loss or the outputs in forward mode (jax.jvp, "
        "jax.linearize, jax.jacfwd, jax.hessian), or a third one: the check sees gradients in "
        "reverse mode (jax.grad, jax.vjp) and the gradients of those"
    )


def _called(function: Callable[..., Any], shapes: Any, *given: Any) -> Any:
    return jax.pure_callback(function, shapes, *given, vmap_method="sequential")


def _shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _type(params: Any) -> Any:
    return jax.tree.leaves(params)[0].dtype
