"""The problem's network below Keras: it is computed by the problem, in float64, and seen.

Keras' own operations do not keep float64 on every backend (in 3.15.1 `matmul` does not on torch,
nor `tanh` on JAX), so the framework below is only told what comes out, and the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from rsam_ref.conformance.observe.observer import BrokenError


class Network(NamedTuple):
    """The outputs for weights and inputs, and the gradients at the weights; all NumPy arrays."""

    outputs: Callable[[list[Any], Any], np.ndarray]
    gradients: Callable[[list[Any], Any, Any], list[np.ndarray]]
    """From weights, inputs and the gradient at the outputs."""


def through(network: Network, weights: list[Any], x: Any) -> Any:
    """The network's outputs as a tensor of the backend, which can be differentiated."""
    backend = keras.backend.backend()
    if backend == "torch":
        return _in_torch(network, weights, x)
    if backend == "jax":
        return _in_jax(network, weights, x)
    raise BrokenError(
        f"Keras runs on {backend}; the check sees through its backends torch and jax: set "
        "KERAS_BACKEND to one of them"
    )


def _in_torch(network: Network, weights: list[Any], x: Any) -> Any:
    import torch

    class Outputs(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, *weights: Any) -> Any:
            ctx.kept = [w.detach().double().numpy().copy() for w in weights]
            return torch.from_numpy(network.outputs(ctx.kept, x.numpy())).to(weights[0].dtype)

        @staticmethod
        def backward(ctx: Any, seed: Any) -> Any:
            found = network.gradients(ctx.kept, x.numpy(), seed.numpy())
            return (None, *(torch.from_numpy(g).to(seed.dtype) for g in found))

    return Outputs.apply(x, *weights)


def _in_jax(network: Network, weights: list[Any], x: Any) -> Any:
    import jax

    def called(function: Any, shapes: Any, *given: Any) -> Any:
        def in_type(*arrays: Any) -> Any:
            cast = lambda array, like: np.asarray(array, like.dtype)
            return jax.tree.map(cast, function(*arrays), shapes)

        return jax.pure_callback(in_type, shapes, *given, vmap_method="sequential")

    def outputs(weights: list[Any], x: Any) -> Any:
        shape = (x.shape[0], weights[-1].shape[0])
        return called(network.outputs, jax.ShapeDtypeStruct(shape, weights[0].dtype), weights, x)

    def forward(weights: list[Any], x: Any) -> Any:
        return outputs(weights, x), (weights, x)

    def backward(kept: Any, seed: Any) -> Any:
        weights, x = kept
        shapes = [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in weights]
        return called(network.gradients, shapes, weights, x, seed), jax.numpy.zeros_like(x)

    traced = jax.custom_vjp(outputs)
    traced.defvjp(forward, backward)
    return traced(weights, x)
