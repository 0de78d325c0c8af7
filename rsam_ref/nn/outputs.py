"""What a model gives, without training it."""

from __future__ import annotations

from typing import Any

from rsam_backends import quiet, to_device
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.nn.module import Module
from rsam_ref.nn.passes import frozen_statistics


def outputs_of(model: Module, x: Any) -> Tensor:
    """A model's outputs for inputs x (N, ...): in evaluation mode, without a graph.

    Inputs may lie on the host, in another precision than the weights.
    """
    with model.in_mode(training=False), no_grad(), frozen_statistics(), quiet():
        return model(Tensor.over(to_device(x, model.weights.flat.dtype)))
