"""Networks: layers, their weights in one flat vector, and the way to ``loss_and_grad(w)``.

May import: `rsam_ref.autograd` and `rsam_backends`. Imported by: models, training and all above.
"""

from rsam_ref.nn.faults import first_not_finite
from rsam_ref.nn.initializers import constant, normal, truncated_normal, uniform
from rsam_ref.nn.layers import (
    GELU,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Tanh,
)
from rsam_ref.nn.module import Module
from rsam_ref.nn.passes import frozen_statistics
from rsam_ref.nn.weights import Parameter, Weights

__all__ = [
    "GELU",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Tanh",
    "Weights",
    "constant",
    "first_not_finite",
    "frozen_statistics",
    "normal",
    "truncated_normal",
    "uniform",
]
