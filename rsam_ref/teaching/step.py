"""One step of SAM or R-SAM in numbers: on two weights, where it can be drawn, and on a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rsam_backends import Stream, to_host, xp
from rsam_backends.base import Array
from rsam_ref import models
from rsam_ref.algorithms.base import SGD
from rsam_ref.algorithms.noise import filter_noise
from rsam_ref.algorithms.optimizers import RSAM, SAM
from rsam_ref.algorithms.sam import Trace, norm, rsam_gradient, sam_gradient
from rsam_ref.autograd import ops
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.data import digits_split
from rsam_ref.data.feed import batches
from rsam_ref.nn.objective import objective
from rsam_ref.training.loop import train

ALGORITHMS = {"rsam": "R-SAM", "sam": "SAM"}


@dataclass(frozen=True)
class WorkedStep:
    """One step in numbers: the weights before and after, its trace, and the settings."""

    w: Array
    trace: Trace
    after: Array
    lr: float
    rho: float
    sigma: float
    lam: float

    @property
    def algorithm(self) -> str:
        """rsam, or sam, whose step has no draw."""
        return "sam" if self.trace.noise is None else "rsam"

    @property
    def noise(self) -> Any:
        """D; SAM's step has none."""
        return self.trace.noise

    @property
    def g0(self) -> Any:
        """The first gradient."""
        return self.trace.ascent_gradient

    @property
    def eps(self) -> Any:
        """The perturbation."""
        return self.trace.perturbation

    @property
    def ascent(self) -> Array:
        """The direction of the ascent before it is given its length: a = lam g0 + D; SAM's g0."""
        return self.g0 if self.trace.noise is None else self.lam * self.g0 + self.noise


def valley(w: Tensor) -> Tensor:
    """The loss of the two-weight problem: a bent valley with ripples across it.

    ``w`` is (..., 2). The ripples turn the gradient within a short distance, which is where one
    ascent step from w is misled and the draw around w matters.
    """
    return bowl(w) + ripple(w)


def bowl(w: Tensor) -> Tensor:
    """The smooth part of `valley`."""
    x, y = w[..., 0], w[..., 1]
    bend = y - 0.5 * x * x
    return 0.15 * (x - 1) ** 2 + 0.6 * bend**2


def ripple(w: Tensor) -> Tensor:
    """The ripples across `valley`."""
    return 0.35 * (ops.tanh(3 * (w[..., 0] - 0.6)) * ops.tanh(3 * (w[..., 1] - 0.7)))


def two_weights(
    *,
    algorithm: str = "rsam",
    rho: float = 0.5,
    sigma: float = 0.25,
    lam: float = 1.0,
    lr: float = 0.4,
    seed: int = 14,
) -> WorkedStep:
    """One step on `valley` from a fixed point; SAM's has no use for sigma, lam and seed."""

    def loss_and_grad(w: Array) -> tuple[Array, Array]:
        leaf = Tensor(w, requires_grad=True)
        loss = valley(leaf)
        loss.backward()
        assert leaf.grad is not None
        return loss.data, leaf.grad

    w = xp.array([0.3, 0.8])
    if algorithm == "sam":
        trace = sam_gradient(loss_and_grad, w, rho=rho)
        return WorkedStep(w, trace, w - lr * trace.gradient, lr, rho, 0.0, 1.0)
    noise = filter_noise(w, [w.shape], sigma=sigma, stream=Stream("noise", seed))
    trace = rsam_gradient(loss_and_grad, w, noise, rho=rho, lam=lam)
    return WorkedStep(w, trace, w - lr * trace.gradient, lr, rho, sigma, lam)


@dataclass(frozen=True)
class NetworkStep:
    """One step on the digits network, with the losses and gradients it does not itself ask for."""

    step: WorkedStep
    loss_before: float
    loss_after: float
    gradient_before: Array
    weights: int


def digits_network(
    *,
    algorithm: str = "rsam",
    rho: float = 0.3,
    sigma: float = 1e-3,
    lam: float = 2.0,
    lr: float = 0.1,
    seed: int = 0,
    epochs: int = 5,
) -> NetworkStep:
    """One step of the digits MLP 64-256-256-10 on one batch, after some epochs of SGD."""
    split = digits_split(seed, label_noise=0.4)
    model = models.mlp([64, 256, 256, 10], seed=seed)
    train(model, SGD(0.1, momentum=0.9), split.x_train, split.y_train, epochs=epochs, seed=seed)
    index = next(batches(len(split.x_train), 64, seed, epochs))
    batch = objective(model, split.x_train[index], split.y_train[index])
    w = model.weights.flat
    before = w.copy()
    loss_before, gradient_before = batch(before)
    if algorithm == "sam":
        trace = SAM(SGD(lr), rho).step(batch, w)
        sigma, lam = 0.0, 1.0
    else:
        trace = RSAM(SGD(lr), rho, sigma, lam, seed).step(batch, w)
    loss_after, _ = batch(w)
    step = WorkedStep(before, trace, w.copy(), lr, rho, sigma, lam)
    return NetworkStep(step, float(loss_before), float(loss_after), gradient_before, w.size)


def angle(a: Array, b: Array) -> float:
    """The angle between two vectors, in degrees; nan where one of them is 0."""
    lengths = float(norm(a) * norm(b))
    return (
        math.degrees(math.acos(max(-1.0, min(1.0, float(a @ b) / lengths))))
        if lengths
        else math.nan
    )


def quantities(step: WorkedStep) -> list[tuple[str, str, Array]]:
    """The vectors of a step in the order in which they arise: (symbol, what it is, vector)."""
    drawn = [
        ("D", "the draw around them, sigma s z", step.noise),
        ("g0", "the gradient at the smoothed weights w + D", step.g0),
        ("a", "the ascent direction, lam g0 + D", step.ascent),
        ("eps", "the perturbation, rho a / ||a||", step.eps),
    ]
    plain = [
        ("g0", "the gradient at the weights w", step.g0),
        ("eps", "the perturbation, rho g0 / ||g0||", step.eps),
    ]
    return [
        ("w", "the weights", step.w),
        *(plain if step.algorithm == "sam" else drawn),
        ("g", "the gradient at w + eps", step.trace.gradient),
        ("w'", "the new weights, w - lr g", step.after),
    ]


def first_place(step: WorkedStep) -> str:
    """Where the first gradient is taken."""
    return "w" if step.algorithm == "sam" else "w + D"


def settings_text(step: WorkedStep) -> str:
    """The settings of a step that mean something to its algorithm."""
    random = f", sigma {step.sigma:g}, lam {step.lam:g}" if step.algorithm == "rsam" else ""
    return f"rho {step.rho:g}{random}, lr {step.lr:g}"


def as_text(vector: Array) -> str:
    """A short vector in full, a long one by its length alone."""
    values = to_host(vector)
    if values.size > 4:
        return ""
    return "(" + ", ".join(f"{v:+.3f}" for v in values.tolist()) + ")"


def angles(network: NetworkStep) -> list[tuple[str, float]]:
    """The angles that say what the ascent and the draw did, in degrees."""
    step, trace = network.step, network.step.trace
    g: Any = network.gradient_before
    turned = ("between the descent gradient g and the gradient at w", angle(trace.gradient, g))
    if step.algorithm == "sam":
        return [turned]
    return [
        ("between the gradients at w and at w + D", angle(g, step.g0)),
        ("between the ascent direction and the gradient at w", angle(step.ascent, g)),
        ("between the ascent direction and the draw", angle(step.ascent, step.noise)),
        turned,
    ]
