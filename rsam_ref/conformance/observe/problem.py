"""The problem that an implementation is tried on: a small network with everything that tells.

A convolution (its weight has four axes), linear layers that are not square, two tensors of equal
shape, biases other than 0, filters whose norms differ along both axes, a new mini-batch and other
settings in every step. Its gradients come from this project's autograd, in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rsam_backends import use_backend
from rsam_ref.autograd import ops
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.nn.layers import Conv2d, Flatten, Linear, Sequential
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import objective

Weights = list[np.ndarray]
"""One array a parameter, each in the parameter's shape."""

BATCH, CHANNELS, SIZE, CLASSES = 8, 2, 6, 5


@dataclass(frozen=True)
class Hyper(Mapping[str, float]):
    """The settings of one step. They may differ from step to step, as schedules make them.

    ``hyper.rho`` and ``hyper["rho"]`` are the same.
    """

    lr: float = 0.2
    momentum: float = 0.8
    weight_decay: float = 0.05
    rho: float = 0.4
    sigma: float = 0.03
    lam: float = 2.5
    eta: float = 0.01
    """ASAM's constant beside |w|."""

    def but(self, **changes: float) -> Hyper:
        return replace(self, **changes)

    def __getitem__(self, name: str) -> float:
        return vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))


STEPS = 6
SHORT_STEP, SHORT = 4, 0.04
"""The step whose loss, and with it the gradient, is so much smaller than that of the others."""


def schedule(hyper: Hyper, steps: int = STEPS) -> list[Hyper]:
    """The learning rate changes in the third step and again later, the others half-way."""
    changed = {"rho": 0.7 * hyper.rho, "sigma": 1.4 * hyper.sigma, "lam": 0.8 * hyper.lam}
    plan = [hyper, hyper, hyper.but(lr=0.6 * hyper.lr)]
    plan += [hyper.but(lr=share * hyper.lr, **changed) for share in (0.6, 1.3, 0.8)]
    while len(plan) < steps:
        plan.append(plan[-1])
    return plan[:steps]


class Tanh(Module):
    """A smooth activation: the gradient at w + eps differs everywhere from that at w."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


def network(seed: int) -> Module:
    """Images (N, 2, 6, 6) to (N, 5); about 3,700 weights."""
    return Sequential(
        Conv2d(CHANNELS, 6, 3),
        Tanh(),
        Flatten(),
        Linear(96, 24),
        Tanh(),
        Linear(24, 24),
        Tanh(),
        Linear(24, 24),
        Tanh(),
        Linear(24, CLASSES),
    ).build(seed, "float64")


class Problem:
    """Weights to start from, mini-batches, and the gradient anywhere.

    Parameters
    ----------
    seed:
        Decides the weights and the mini-batches.
    scale:
        The loss is multiplied by this.
    size:
        The weights to start from are multiplied by this.
    """

    def __init__(self, seed: int = 0, scale: float = 1.0, size: float = 1.0) -> None:
        self.scale = scale
        self.own_loss = False
        """Whether the implementation has the loss itself, so that nothing multiplies it."""
        self.nesterov_chosen = False
        """Whether the implementation's arguments ask for Nesterov's momentum."""
        self.rng = np.random.default_rng((seed, 7))
        with use_backend("numpy"):
            self.model = network(seed)
        self.names = list(self.model.weights.names)
        self.shapes = list(self.model.weights.shapes)
        self.slices = list(self.model.weights.slices)
        self.start = size * self._uneven(self.model.weights.flat.copy())
        self._batches: list[tuple[np.ndarray, np.ndarray]] = []

    def _uneven(self, w: np.ndarray) -> np.ndarray:
        """Filters of different norms along every axis, and biases of different sizes."""
        spread = self.rng.uniform
        for i, view in enumerate(self.parts(w)):
            if view.ndim == 1:
                size = 0.15 * 3.0 ** (i // 2 % 4 - 1)
                view[...] = size * spread(0.3, 1, view.shape) * self.rng.choice((-1, 1), view.shape)
                continue
            for axis in range(view.ndim):
                shape = [1] * view.ndim
                shape[axis] = -1
                # Log-uniform from 1/3 to 3 along the first two axes, less within a kernel.
                reach = np.log(3) if axis < 2 else np.log(1.5)
                view *= np.exp(spread(-reach, reach, view.shape[axis])).reshape(shape)
        return w

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Step's inputs (8, 2, 6, 6) and labels (8,)."""
        while len(self._batches) <= step:
            x = self.rng.standard_normal((BATCH, CHANNELS, SIZE, SIZE))
            self._batches.append((x, self.rng.integers(0, CLASSES, BATCH)))
        return self._batches[step]

    def loss_and_grad(
        self,
        w: np.ndarray,
        step: int,
        rows: frozenset[int] | None = None,
        taken_in: int | None = None,
    ) -> tuple[float, np.ndarray]:
        """The mean loss of a step's batch, or of some of its rows, at the flat weights w (P,).

        ``taken_in`` is the step that uses the batch, where that is another.
        """
        x, y = self.batch(step)
        if rows is not None:
            x, y = x[sorted(rows)], y[sorted(rows)]
        with use_backend("numpy"):
            loss, gradient = objective(self.model, x, y)(w)
        scale = self.scale_at(step if taken_in is None else taken_in)
        return scale * float(loss), scale * gradient

    def gradient_through(
        self, forward: np.ndarray, backward: np.ndarray, step: int, taken_in: int
    ) -> np.ndarray:
        """What a backward pass gives (P,) where the weights are changed before it: the activations
        are those at ``forward`` (P,), what they are multiplied by those at ``backward`` (P,).
        """
        x, y = self.batch(step)
        w, gradient = forward.copy(), np.empty_like(forward)
        weights = self.model.weights
        with use_backend("numpy"), weights.at(w), weights.gradient_into(gradient):
            loss = cross_entropy(self.model(Tensor(x)), Tensor(y))
            w[...] = backward
            loss.backward()
        return self.scale_at(taken_in) * gradient

    def outputs(self, w: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The network's outputs (n, 5) for inputs (n, 2, 6, 6), at the flat weights w (P,)."""
        with use_backend("numpy"), self.model.weights.at(w):
            return self.model(Tensor(x))._data

    def outputs_vjp(self, w: np.ndarray, x: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """The gradient (P,) of ``(outputs * seed).sum()``; seed (n, 5)."""
        gradient = np.empty_like(w)
        weights = self.model.weights
        with use_backend("numpy"), weights.at(w), weights.gradient_into(gradient):
            self.model(Tensor(x)).backward(seed)
        return gradient

    def scale_at(self, step: int) -> float:
        """What a step's loss is multiplied by. One step's gradient is far shorter than the others':
        a length that is cut, floored or brought to a constant shows there.
        """
        if self.own_loss:
            return 1.0
        return self.scale * (SHORT if step == SHORT_STEP else 1.0)

    def parts(self, w: np.ndarray) -> Weights:
        """The flat vector's parts in the shapes of the parameters: views."""
        return [w[at].reshape(shape) for at, shape in zip(self.slices, self.shapes)]

    def flat(self, weights: Weights) -> np.ndarray:
        """The parameters in one vector of float64 (P,)."""
        return np.concatenate([np.asarray(part, float).reshape(-1) for part in weights])

    def per_tensor(self, values: list[float] | np.ndarray) -> np.ndarray:
        """One number a tensor, spread over its weights: (P,)."""
        return np.repeat(np.asarray(values, float), self.sizes)

    @cached_property
    def sizes(self) -> list[int]:
        return [at.stop - at.start for at in self.slices]

    @cached_property
    def one_axis(self) -> np.ndarray:
        """Whether a weight belongs to a 1-D parameter: (P,) of bool."""
        return np.repeat([len(shape) == 1 for shape in self.shapes], self.sizes)

    def filters(self) -> Iterator[slice]:
        """The run of every filter in the flat vector."""
        for at, shape in zip(self.slices, self.shapes):
            width = (at.stop - at.start) // (shape[0] if len(shape) > 1 else 1)
            for start in range(at.start, at.stop, width):
                yield slice(start, start + width)
