"""The small problems that the optimizers are tested on.

A net with every kind of parameter and of state (filters, matrices that are not square, biases,
running statistics, dropout), batches for it, a plain function of a bare vector, and a witness that
remembers where a ``loss_and_grad`` was asked.
"""

from __future__ import annotations

import numpy as np

from rsam_ref import RSAM, SAM, SGD, AdamW, NoiseOnly, objective
from rsam_ref.nn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, ReLU, Sequential

BASES = {
    "sgd": lambda: SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    "damped sgd": lambda: SGD(0.1, momentum=0.8, dampening=0.3, clip_norm=0.3),
    "adamw": lambda: AdamW(0.01, weight_decay=0.1),
}

# Every wrapper, as a function of the base and the radius (noise alone has none).
WRAPPERS = {
    "sam": lambda base, rho: SAM(base, rho),
    "3-step sam": lambda base, rho: SAM(base, rho, ascent_steps=3),
    "asam": lambda base, rho: SAM(base, rho, adaptive=True),
    "rsam": lambda base, rho: RSAM(base, rho, sigma=0.05, seed=3),
    "ball": lambda base, rho: RSAM(base, rho, sigma=0.05, seed=3, variant="ball"),
    "gradient": lambda base, rho: RSAM(base, rho, sigma=0.05, seed=3, variant="gradient"),
    "stacked": lambda base, rho: RSAM(base, rho, sigma=0.05, seed=3, variant="stacked"),
    "noise": lambda base, rho: NoiseOnly(base, sigma=0.05, seed=3),
}


def net(dtype="float64", seed=0):
    """Images (N, 2, 4, 4) to scores (N, 4)."""
    return Sequential(
        Conv2d(2, 3, 3, padding=1),
        BatchNorm2d(3),
        ReLU(),
        Flatten(),
        Dropout(0.3),
        Linear(48, 5),
        ReLU(),
        Linear(5, 4),
    ).build(seed, dtype)


def batches(steps, inputs=(2, 4, 4), classes=4, samples=8, seed=0):
    """Another mini-batch of random samples and labels for every step."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield rng.standard_normal((samples, *inputs)), rng.integers(0, classes, samples)


def train(model, optimizer, steps=4, first=0):
    """Some steps on batches ``first``, ``first + 1``, ...; the traces of all."""
    todo = list(batches(first + steps))[first:]
    return [
        optimizer.step(objective(model, x, y, seed=first + i), model.weights.flat)
        for i, (x, y) in enumerate(todo)
    ]


def bumpy(c):
    """A function of vectors like ``c``, of any array library; it is not convex."""

    def loss_and_grad(w):
        along = c @ w
        loss = 0.25 * (w * w) @ (w * w) - 0.5 * (c * w) @ w + 0.5 * along * along
        return loss, w * w * w - c * w + along * c

    return loss_and_grad


class OneFilter:
    """A plain function of w for optimizers that draw: all weights are one filter."""

    def __init__(self, function, size):
        self.function, self.shapes = function, [(size,)]

    def __call__(self, w):
        return self.function(w)

    def begin_step(self):
        pass

    def abandon_step(self):
        pass


def points(size=12, dtype="float64", seed=0):
    """A ``bumpy`` function, all weights one filter, and a vector of weights for it, in NumPy."""
    rng = np.random.default_rng(seed)
    f = OneFilter(bumpy(rng.standard_normal(size).astype(dtype)), size)
    return f, rng.standard_normal(size).astype(dtype)


class Watched:
    """A ``loss_and_grad`` that remembers where it was asked, and can fail at its n-th call."""

    def __init__(self, inner, fail_at=None):
        self.inner, self.fail_at, self.visited = inner, fail_at, []

    def __call__(self, w):
        self.visited.append(w.copy())
        if len(self.visited) == self.fail_at:
            raise ArithmeticError("out of order")
        return self.inner(w)

    def __getattr__(self, name):
        return getattr(self.inner, name)
