"""Our rules with the authors' differences built in, to see that a difference is told in full.

Each is called as ``rule(loss_and_grad, w, step)`` and gives the gradient for the base optimizer.
May import: NumPy and the problem. Imported by: the rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.authors.problem import BATCHES, SHAPES, START, MiniBatch, base, draw, flat, split
from benchmarks.survey import HYPER, Weights
from rsam_ref import SGD

Rule = Callable[[MiniBatch, np.ndarray, int], np.ndarray]


def steps(rule: Rule, under: SGD | None = None) -> list[Weights]:
    """The weights after each step."""
    under = under or base()
    w, after = flat(START), []
    for step, (x, y) in enumerate(BATCHES):
        under.move(w, rule(MiniBatch(x, y), w, step))
        under.steps += 1
        after.append(split(w))
    return after


def length(v: np.ndarray) -> float:
    return float(np.sqrt(v @ v))


def by_tensor(values: list[float]) -> np.ndarray:
    """A number for each tensor, spread over its weights."""
    return flat([value * np.ones(shape) for value, shape in zip(values, SHAPES)])


def asam_of_weights(rho: float, eta: float) -> list[Weights]:
    """ASAM with T = 1 for biases."""
    is_weight = by_tensor([float(len(shape) > 1) for shape in SHAPES]) == 1

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        _, g0 = loss_and_grad(w)
        t = np.where(is_weight, abs(w) + eta, 1.0)
        return loss_and_grad(w + rho * t**2 * g0 / length(t * g0))[1]

    return steps(rule)


def usam_in_a_ball(rho: float) -> list[Weights]:
    """Unnormalised SAM with an eps that is never longer than rho."""

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        _, g0 = loss_and_grad(w)
        return loss_and_grad(w + rho * g0 / max(1.0, length(g0)))[1]

    return steps(rule)


def wsam_of_direction(rho: float, alpha: float) -> list[Weights]:
    """The mixture with g0's direction in place of g0."""

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        _, g0 = loss_and_grad(w)
        unit = g0 / length(g0)
        return (1 - alpha) * unit + alpha * loss_and_grad(w + rho * unit)[1]

    return steps(rule)


def looksam_along_w_first(rho: float, k: int, alpha: float) -> list[Weights]:
    """LookSAM whose first v is what g has across w, not across g0."""
    kept: dict[str, np.ndarray] = {}

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        _, g0 = loss_and_grad(w)
        if step % k:
            v = kept["v"]
            return g0 + alpha * length(g0) / length(v) * v
        _, g = loss_and_grad(w + rho * g0 / length(g0))
        along = w if step == 0 else g0
        kept["v"] = g - (g @ along) / (along @ along) * along
        return g

    return steps(rule)


def looksam_by_tensor_with(tiny: float, rho: float, k: int, alpha: float) -> list[Weights]:
    """LookSAM by tensor with another constant beside v's length."""
    kept: dict[str, np.ndarray] = {}

    def lengths(v: np.ndarray) -> np.ndarray:
        return by_tensor([length(part.ravel()) for part in split(v)])

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        _, g0 = loss_and_grad(w)
        if step % k:
            v = kept["v"]
            return g0 + alpha * lengths(g0) / (lengths(v) + tiny) * v
        _, g = loss_and_grad(w + rho * g0 / length(g0))
        inner = by_tensor([float(part.sum()) for part in split(g * g0)])
        kept["v"] = g - inner / lengths(g0) ** 2 * g0
        return g

    return steps(rule)


def esam_of_tensors(masks: list[np.ndarray], rho: float, beta: float) -> list[Weights]:
    """ESAM with the norm over what is kept."""

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        kept = masks[step] * loss_and_grad(w)[1]
        return loss_and_grad(w + rho / beta * kept / length(kept))[1]

    return steps(rule)


def sparse_sam_after(rho: float, sparsity: float, count: int) -> list[Weights]:
    """Sparse SAM with a mask from after the step, whose gradient is in the first sample's."""
    last: dict[str, np.ndarray] = {}

    def mask(w: np.ndarray, step: int) -> np.ndarray:
        if step == 0:
            return np.zeros_like(w)
        gradients = [sample(w)[1] for sample in MiniBatch(*BATCHES[step - 1]).samples(count)]
        gradients[0] = gradients[0] + last["g"]
        fisher = sum(g**2 for g in gradients)
        kept = np.zeros_like(w)
        kept[np.argsort(fisher)[-int(w.size * (1 - sparsity)) :]] = 1
        return kept

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        _, g0 = loss_and_grad(w)
        last["g"] = loss_and_grad(w + rho * mask(w, step) * g0 / length(g0))[1]
        return last["g"]

    return steps(rule)


def momentum_sam_decayed_there(rho: float) -> list[Weights]:
    """Momentum SAM with weight decay at w + eps."""
    under = base(weight_decay=0.0)

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        v = under.velocity if step else np.zeros_like(w)
        there = w - rho * v / (length(v) + 1e-12)
        return loss_and_grad(there)[1] + HYPER["weight_decay"] * there

    return steps(rule, under)


def mixed_adaptive_rwp(sigma: float, lam: float, eta: float, beta: float) -> list[Weights]:
    """m-RWP with ARWP's draw."""
    kept = {"h": np.zeros(flat(START).size)}

    def over_rows(v: np.ndarray) -> np.ndarray:
        rows = [np.add.reduce(p, axis=1, keepdims=True) if p.ndim > 1 else p for p in split(v)]
        return flat([np.broadcast_to(r, shape) for r, shape in zip(rows, SHAPES)])

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        # a row's norm for a matrix, the whole norm for a bias
        squares = [p**2 if p.ndim > 1 else (p**2).sum() * np.ones_like(p) for p in split(w)]
        scale = np.sqrt(over_rows(flat(squares)))
        noise = sigma * scale * flat(draw(step)) / np.sqrt(1 + eta * over_rows(kept["h"]))
        g = loss_and_grad(w + noise)[1]
        kept["h"] = beta * kept["h"] + g**2
        return lam * g + (1 - lam) * loss_and_grad(w)[1]

    return steps(rule)


def bayesian_sam_in_parts(
    rho: float, n: float, delta: float, gamma: float, beta1: float, beta2: float
) -> list[Weights]:
    """Bayesian SAM with an ascent for each part of the mini-batch, averaged."""
    kept = {"m": np.zeros(flat(START).size), "s": np.ones(flat(START).size)}

    def rule(loss_and_grad: MiniBatch, w: np.ndarray, step: int) -> np.ndarray:
        m, s = kept["m"], kept["s"]
        noisy = w + flat(draw(step)) / np.sqrt(n * s)
        parts = loss_and_grad.parts
        first = [len(parts) * part(noisy)[1] for part in parts]
        g = sum(part(w + rho * g0 / s)[1] for part, g0 in zip(parts, first))
        size = sum(abs(g0) for g0 in first) / len(parts)
        kept["m"] = beta1 * m + (1 - beta1) * (g + delta * w)
        kept["s"] = beta2 * s + (1 - beta2) * (np.sqrt(s) * size + delta + gamma)
        return kept["m"] / s

    return steps(rule, base(momentum=0.0, weight_decay=0.0))
