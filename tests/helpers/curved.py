"""Small trained networks with curvature of every sign, and PyTorch's exact Hessians of them.

An MLP with ReLU, one with tanh, and a CNN with batch norm, trained a little on digits of which
40 % have wrong labels; the loss is that of some of these digits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from rsam_ref import SGD, objective
from rsam_ref.data import digits
from rsam_ref.nn.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Tanh,
)
from rsam_ref.sharpness import Landscape

MAKE = {
    "relu": lambda: [Flatten(), Linear(64, 16), ReLU(), Linear(16, 16), ReLU(), Linear(16, 10)],
    "tanh": lambda: [Flatten(), Linear(64, 16), Tanh(), Linear(16, 16), Tanh(), Linear(16, 10)],
    "bn": lambda: [
        *(Conv2d(1, 4, 3, padding=1), BatchNorm2d(4), ReLU(), MaxPool2d(2)),
        *(Conv2d(4, 6, 3, padding=1), BatchNorm2d(6), ReLU(), MaxPool2d(2)),
        *(Flatten(), Linear(24, 10)),
    ],
}


class Curved:
    """A network, the digits of its loss, and both libraries' versions of it."""

    def __init__(self, name: str, samples: int = 200, epochs: int = 12) -> None:
        x, y = (array[:400] for array in digits()[:2])
        rng = np.random.default_rng(0)
        y = np.where(rng.random(400) < 0.4, rng.integers(0, 10, 400), y)
        x = x.reshape(400, 1, 8, 8).astype("float64")
        self.model = Sequential(*MAKE[name]()).build(1, "float64")
        optimizer = SGD(0.1)
        for epoch in range(epochs):
            order = np.random.default_rng(epoch).permutation(400).reshape(-1, 50)
            for index in order:
                optimizer.step(objective(self.model, x[index], y[index]), self.model.weights.flat)
        self.x, self.y = x[:samples], y[:samples]
        self.w = self.model.weights.flat
        self.shapes, self.slices = self.model.weights.shapes, self.model.weights.slices
        self.loss = Landscape(self.model, self.x, self.y)

    def scores(self, w: torch.Tensor, x: Any = None) -> torch.Tensor:
        """The scores of the digits at w (P,), in PyTorch."""
        values = torch.from_numpy(self.x if x is None else x)
        views = [w[at].reshape(shape) for at, shape in zip(self.slices, self.shapes)]
        for layer in self.model.modules().values():
            match layer:
                case Linear():
                    values = nn.functional.linear(values, views.pop(0), views.pop(0))
                case Conv2d():
                    values = nn.functional.conv2d(values, views.pop(0), views.pop(0), padding=1)
                case BatchNorm2d():
                    mean, var = (
                        torch.from_numpy(np.array(a))
                        for a in (layer.running_mean, layer.running_var)
                    )
                    values = nn.functional.batch_norm(
                        values, mean, var, views.pop(0), views.pop(0), eps=1e-5
                    )
                case ReLU():
                    values = values.relu()
                case Tanh():
                    values = values.tanh()
                case MaxPool2d():
                    values = nn.functional.max_pool2d(values, 2)
                case Flatten():
                    values = values.flatten(1)
        assert not views
        return values

    def torch_loss(self, w: torch.Tensor) -> torch.Tensor:
        """The loss at w (P,), in PyTorch."""
        return nn.functional.cross_entropy(self.scores(w), torch.from_numpy(self.y))

    @property
    def torch_w(self) -> torch.Tensor:
        """A copy of the weights."""
        return torch.from_numpy(self.w.copy())

    def hessian(self) -> np.ndarray:
        """The whole Hessian (P, P), by double backward."""
        gradient = torch.func.grad(self.torch_loss)
        return torch.func.jacrev(gradient, chunk_size=64)(self.torch_w).detach().numpy()


@cache
def curved(name: str) -> Curved:
    """The network of this name; its weights stay as they are."""
    return Curved(name)


@cache
def exact_hessian(name: str) -> np.ndarray:
    """Its Hessian (P, P), symmetric to the last bit."""
    found = curved(name).hessian()
    return (found + found.T) / 2
