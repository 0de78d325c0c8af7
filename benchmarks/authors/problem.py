"""The network and the mini-batches on which the authors' code and ours take their steps.

The network is the survey's, 3-4-2 with tanh, in float64; the steps are ten, of SGD with momentum
and weight decay. May import: the survey's problem, rsam_ref, PyTorch, and JAX inside of functions.
Imported by: the adapters and the command beside it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.survey import HYPER, Weights, gradient, problem
from rsam_backends import Stream
from rsam_ref import SGD
from rsam_ref.algorithms import relatives
from rsam_ref.algorithms.optimizer import Optimizer

STEPS = 10
START, BATCHES = problem(STEPS)
SHAPES = [w.shape for w in START]
SIZE = sum(math.prod(shape) for shape in SHAPES)
SEED = 0


def split(flat: np.ndarray) -> Weights:
    """A flat vector as the network's tensors."""
    ends = np.cumsum([math.prod(shape) for shape in SHAPES])[:-1]
    return [part.reshape(shape).copy() for part, shape in zip(np.split(flat, ends), SHAPES)]


def flat(weights: Sequence[Any]) -> np.ndarray:
    """Tensors of any library as one vector."""
    return np.concatenate([np.asarray(w).ravel() for w in weights])


def draw(step: int) -> Weights:
    """The z ~ N(0, I) that our rules draw in this step."""
    return split(Stream("noise", SEED, step).normal(SIZE, np.dtype("float64")))


# Ours


class MiniBatch:
    """The loss of a mini-batch as our rules take it; no rule goes by the loss' value, told as 0."""

    def __init__(self, x: np.ndarray, y: np.ndarray, share: float = 1.0, parts: int = 2) -> None:
        self.x, self.y, self.share, self.pieces = x, y, share, parts

    def __call__(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        return 0.0, self.share * flat(gradient(split(w), self.x, self.y))

    @property
    def parts(self) -> list[MiniBatch]:
        halves = zip(np.split(self.x, self.pieces), np.split(self.y, self.pieces))
        return [MiniBatch(x, y, share=1 / self.pieces) for x, y in halves]

    def samples(self, count: int) -> list[MiniBatch]:
        return [MiniBatch(self.x[i : i + 1], self.y[i : i + 1]) for i in range(count)]


def base(**changed: float) -> SGD:
    """The base optimizer: lr 0.1, momentum 0.9, weight decay 0.01, where nothing else is said."""
    return SGD(**(HYPER | changed))


def ours(
    relative: str, under: SGD | None = None, given: dict[str, Any] | None = None, **settings: Any
) -> list[Weights]:
    """Our weights after each step; ``given`` are draws of the authors', a list by the need."""
    optimizer = relatives.make(relative, under or base(), seed=SEED, shapes=SHAPES, **settings)
    for need, values in (given or {}).items():
        setattr(optimizer, f"_{need}", lambda *_, v=values: v[optimizer.steps])
    return steps_of(optimizer)


def steps_of(optimizer: Optimizer) -> list[Weights]:
    """The weights after each step of any of our optimizers."""
    w = flat(START)
    after = []
    for x, y in BATCHES:
        optimizer.step(MiniBatch(x, y), w)
        after.append(split(w))
    return after


# PyTorch


def network() -> torch.nn.Sequential:
    """The network at its first weights."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    for p, w in zip(model.double().parameters(), START):
        p.data = torch.tensor(w)
    return model


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The mini-batches of all steps."""
    return [(torch.tensor(x), torch.tensor(y)) for x, y in BATCHES]


def backward(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss' gradient where the model is; the loss."""
    model.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss


def sgd(model: torch.nn.Module, **changed: float) -> torch.optim.SGD:
    """PyTorch's own, with the settings of `base`."""
    return torch.optim.SGD(model.parameters(), **(HYPER | changed))


def weights(model: torch.nn.Module) -> Weights:
    """Copies of where the model is."""
    return [p.detach().numpy().copy() for p in model.parameters()]


def each_step(model: torch.nn.Module, step: Callable[[int, Any, Any], Any]) -> list[Weights]:
    """The weights after each of ``step(number, x, y)``."""
    after = []
    for number, (x, y) in enumerate(batches()):
        step(number, x, y)
        after.append(weights(model))
    return after


def halves(model: torch.nn.Module, optimizer: Any) -> list[Weights]:
    """An optimizer with a first step and a second one."""

    def step(_: int, x: torch.Tensor, y: torch.Tensor) -> None:
        backward(model, x, y)
        optimizer.first_step(zero_grad=True)
        backward(model, x, y)
        optimizer.second_step(zero_grad=True)

    return each_step(model, step)


# JAX


def jax() -> Any:
    """JAX in float64, with two functions that newer versions have elsewhere."""
    module = importlib.import_module("jax")
    module.config.update("jax_enable_x64", True)
    tree_map = module.tree_util.tree_map

    class WithTreeMap:
        def __getattr__(self, name: str) -> Any:
            return tree_map if name in ("tree_map", "tree_multimap") else getattr(module, name)

    return WithTreeMap()


def jax_loss(weights: Sequence[Any], x: Any, one_hot: Any) -> Any:
    """The mean cross-entropy, traceable."""
    jnp = importlib.import_module("jax.numpy")
    nn = importlib.import_module("jax.nn")
    w1, b1, w2, b2 = weights
    scores = jnp.tanh(x @ w1.T + b1) @ w2.T + b2
    return -(nn.log_softmax(scores) * one_hot).sum(axis=1).mean()


def one_hot(y: np.ndarray) -> np.ndarray:
    """Labels (N,) as rows (N, 2)."""
    return np.eye(2)[y]


def by_gradients(find: Callable[[Weights, Any, Any], Sequence[Any]]) -> list[Weights]:
    """Steps of our SGD with gradients of theirs: ``find(weights, x, one-hot labels)``."""
    w, under, after = flat(START), base(), []
    for x, y in BATCHES:
        under.move(w, flat(find(split(w), x, one_hot(y))))
        under.steps += 1
        after.append(split(w))
    return after
