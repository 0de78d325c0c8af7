"""The small models: a multilayer perceptron and a convolutional network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from rsam_ref.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from rsam_ref.nn.module import Module


def mlp(sizes: Sequence[int], *, seed: int = 0, dtype: Any = "float32") -> Module:
    """Linear layers of these sizes with ReLU between: ``mlp([64, 256, 10])`` maps 64 values to 10.

    Inputs (..., sizes[0]), outputs (..., sizes[-1]). PyTorch's counterpart is
    ``nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))``, with the same state_dict.

    >>> from rsam_ref import models
    >>> model = models.mlp([64, 256, 10], seed=0)
    >>> model.weights.flat.shape, model.weights.names
    ((19210,), ['0.weight', '0.bias', '2.weight', '2.bias'])
    """
    if len(sizes) < 2 or any(n < 1 for n in sizes):
        raise ValueError(f"mlp: give at least two sizes >= 1, inputs to outputs, not {list(sizes)}")
    layers: list[Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [Linear(inputs, outputs), ReLU()]
    return Sequential(*layers[:-1]).build(seed, dtype)


def flat_mlp(
    *,
    shape: tuple[int, ...],
    classes: int = 10,
    hidden: Sequence[int] | int = (256, 256),
    seed: int = 0,
    dtype: Any = "float32",
) -> Module:
    """An `mlp` on inputs ``(N, *shape)``, each made one row first; so its layers are 1, 3, 5, ...

    The weights are those that `mlp` draws from the same seed.
    """
    widths = [hidden] if isinstance(hidden, int) else hidden
    rows = mlp([math.prod(shape), *widths, classes])
    return Sequential(Flatten(), *[layer for _, layer in rows.children()]).build(seed, dtype)


def cnn(
    *,
    channels: int = 1,
    size: int = 28,
    classes: int = 10,
    width: int = 32,
    seed: int = 0,
    dtype: Any = "float32",
) -> Module:
    """Two 3 x 3 convolutions, each with ReLU and 2 x 2 max pooling, then one linear layer.

    Images (N, channels, size, size) to (N, classes); the second convolution is twice as wide.
    """
    if size % 4:
        raise ValueError(
            f"cnn: the image size is halved twice and must be divisible by 4, not {size}"
        )
    return Sequential(
        Conv2d(channels, width, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Conv2d(width, 2 * width, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(2 * width * (size // 4) ** 2, classes),
    ).build(seed, dtype)
