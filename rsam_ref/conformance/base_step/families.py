"""Base steps other than SGD's, for implementations whose base optimizer cannot be replayed.

A function, JAX code or an optimizer with its own Adam inside holds no optimizer that could be
copied. So its moves are held against families of published ones: Adam, RMSprop, Adagrad, Lion and
signs, with the constants that are in use and those that the implementation holds by name, each with
weight decay coupled, decoupled or left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Vector = np.ndarray
Moves = Callable[[list[Vector], list[float]], list[Vector]]
"""From the gradients and learning rates of all steps to what is subtracted in each."""


@dataclass(frozen=True)
class Family:
    """One rule with its constants."""

    label: str
    moves: Moves


def adam(beta1: float, beta2: float, eps: float, corrected: bool = True) -> Family:
    """m and v are running means of g and g^2; the move is lr m / (sqrt(v) + eps)."""

    def moves(gradients: list[Vector], rates: list[float]) -> list[Vector]:
        m, v, found = np.zeros_like(gradients[0]), np.zeros_like(gradients[0]), []
        for t, (g, lr) in enumerate(zip(gradients, rates), start=1):
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g * g
            first, second = (1 - beta1**t, 1 - beta2**t) if corrected else (1.0, 1.0)
            found.append(lr * (m / first) / (np.sqrt(v / second) + eps))
        return found

    how = "" if corrected else ", without the corrections for the start at 0"
    return Family(f"Adam (betas {beta1:g}, {beta2:g}, eps {eps:g}{how})", moves)


def rmsprop(alpha: float, eps: float, momentum: float) -> Family:
    """v is a running mean of g^2; the velocity takes g / (sqrt(v) + eps)."""

    def moves(gradients: list[Vector], rates: list[float]) -> list[Vector]:
        v, velocity, found = np.zeros_like(gradients[0]), np.zeros_like(gradients[0]), []
        for g, lr in zip(gradients, rates):
            v = alpha * v + (1 - alpha) * g * g
            velocity = momentum * velocity + g / (np.sqrt(v) + eps)
            found.append(lr * velocity)
        return found

    return Family(f"RMSprop (alpha {alpha:g}, eps {eps:g}, momentum {momentum:g})", moves)


def adagrad(eps: float) -> Family:
    """v is the sum of g^2."""

    def moves(gradients: list[Vector], rates: list[float]) -> list[Vector]:
        v, found = np.zeros_like(gradients[0]), []
        for g, lr in zip(gradients, rates):
            v = v + g * g
            found.append(lr * g / (np.sqrt(v) + eps))
        return found

    return Family(f"Adagrad (eps {eps:g})", moves)


def lion(beta1: float, beta2: float) -> Family:
    """The sign of a mean of the momentum and g; beta1 = 0 is the sign of g itself."""

    def moves(gradients: list[Vector], rates: list[float]) -> list[Vector]:
        m, found = np.zeros_like(gradients[0]), []
        for g, lr in zip(gradients, rates):
            found.append(lr * np.sign(beta1 * m + (1 - beta1) * g))
            m = beta2 * m + (1 - beta2) * g
        return found

    return Family(f"Lion (betas {beta1:g}, {beta2:g})" if beta1 else "the gradient's sign", moves)


def signum(beta: float) -> Family:
    """The sign of the velocity."""

    def moves(gradients: list[Vector], rates: list[float]) -> list[Vector]:
        velocity, found = np.zeros_like(gradients[0]), []
        for g, lr in zip(gradients, rates):
            velocity = beta * velocity + g
            found.append(lr * np.sign(velocity))
        return found

    return Family(f"the velocity's sign (momentum {beta:g})", moves)


def nesterov(mu: float) -> Family:
    """Nesterov's momentum as Keras has it: v <- mu v - lr g; w <- w + mu v - lr g."""

    def moves(gradients: list[Vector], rates: list[float]) -> list[Vector]:
        velocity, found = np.zeros_like(gradients[0]), []
        for g, lr in zip(gradients, rates):
            velocity = mu * velocity + lr * g
            found.append(mu * velocity + lr * g)
        return found

    return Family(f"Nesterov's momentum {mu:g}, lr in the velocity", moves)


def families(momentum: float, hints: dict[str, Any]) -> Iterator[Family]:
    """The rules that are tried, the usual constants first."""
    numbers = list(_numbers(hints))
    betas = _unique([0.9, 0.95, 0.0, momentum, *(x for x in numbers if 0.3 < x < 0.9999)])
    slow = _unique([0.999, 0.99, 0.95, 0.98, 0.9, *(x for x in numbers if 0.5 < x < 0.99999)])
    small = _unique([1e-8, 1e-7, 1e-6, 1e-10, 1e-5, 0.0, *(x for x in numbers if 0 < x < 1e-2)])
    for beta1, beta2, eps in itertools.product(betas, slow, small):
        yield adam(beta1, beta2, eps)
    for alpha, eps, mu in itertools.product(slow, small, _unique([0.0, 0.9, momentum])):
        yield rmsprop(alpha, eps, mu)
    for eps in small:
        yield adagrad(eps)
    for beta1, beta2 in itertools.product(betas, slow):
        yield lion(beta1, beta2)
    yield lion(0.0, 0.9)
    for beta in _unique([0.9, momentum]):
        yield signum(beta)
        yield nesterov(beta)
    for beta1, beta2, eps in itertools.product(betas[:2], slow[:2], small[:3]):
        yield adam(beta1, beta2, eps, corrected=False)


NONE = 1e-5
"""A momentum or a weight decay that is smaller than this is none."""


@dataclass(frozen=True)
class FittedSgd:
    """SGD with what was read off; 0 where there is none."""

    momentum: float
    decay: float
    ends: list[Vector]

    @property
    def label(self) -> str:
        return f"SGD (momentum {self.momentum:.4g}, weight decay {self.decay:.4g}: its own)"


def fitted_sgd(
    starts: Sequence[Vector],
    gradients: Sequence[Vector],
    ends: Sequence[Vector],
    rates: list[float],
) -> FittedSgd | None:
    """SGD with a momentum and a weight decay of its own, read off the first two steps.

    The first move is lr (g + decay w), as there is no velocity yet; the second tells the momentum.
    """
    if len(starts) < 3 or not rates[0] or not rates[1]:
        return None
    first = (starts[0] - ends[0]) / rates[0]
    scale, decay = np.linalg.lstsq(np.stack([gradients[0], starts[0]], axis=1), first, rcond=None)[
        0
    ]
    velocity = gradients[0] + decay * starts[0]
    second = (starts[1] - ends[1]) / rates[1] - gradients[1] - decay * starts[1]
    momentum = float(second @ velocity / (velocity @ velocity + 1e-300))
    if abs(scale - 1) > 1e-3 or not -1e-6 < momentum < 1 or decay < -1e-6:
        return None
    velocity, found = np.zeros_like(velocity), []
    for w, g, lr in zip(starts, gradients, rates):
        velocity = momentum * velocity + g + decay * w
        found.append(w - lr * velocity)
    return FittedSgd(_or_none(momentum), _or_none(decay), found)


def _or_none(value: float) -> float:
    return 0.0 if abs(value) < NONE else float(value)


def fitted_decay(
    family: Family,
    w: Vector,
    gradients: list[Vector],
    end: Vector,
    rates: list[float],
) -> float | None:
    """A decoupled weight decay of its own, read off the first step; None where there is none."""
    if not rates[0]:
        return None
    shrunk = w - family.moves(gradients, rates[: len(gradients)])[-1] - end
    decay = float(shrunk @ w / (w @ w + 1e-300)) / rates[0]
    return decay if NONE < decay < 1 else None


DECAYS = ("coupled", "decoupled", "decoupled, not times lr", "none")


@dataclass(frozen=True)
class Decaying:
    """A rule with weight decay: how much, and of which of the `DECAYS`."""

    family: Family
    decay: float
    kind: str
    told: str
    """The kind in words."""

    @property
    def label(self) -> str:
        return f"{self.family.label}, weight decay {self.told}"

    def ends(
        self, starts: Sequence[Vector], gradients: Sequence[Vector], rates: list[float]
    ) -> list[Vector]:
        """Where the weights are after every step."""
        decay, kind = self.decay, self.kind
        if kind == "coupled":
            gradients = [g + decay * w for g, w in zip(gradients, starts)]
        share = {"decoupled": rates, "decoupled, not times lr": [1.0] * len(rates)}.get(kind)
        moves = self.family.moves(list(gradients), rates)
        shrunk = starts if share is None else [w - s * decay * w for w, s in zip(starts, share)]
        return [w - move for w, move in zip(shrunk, moves)]


def _numbers(hints: dict[str, Any]) -> Iterator[float]:
    for value in hints.values():
        yield from (float(v) for v in (value if isinstance(value, tuple | list) else [value]))


def _unique(values: list[float]) -> list[float]:
    return list(dict.fromkeys(values))
