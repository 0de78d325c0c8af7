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
from rsam_ref.algorithms.variants import asam_gradient
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.data import digits_split
from rsam_ref.data.feed import batches
from rsam_ref.nn.objective import objective
from rsam_ref.teaching.surfaces import START, SURFACES, Surface
from rsam_ref.training.loop import train

ALGORITHMS = {"rsam": "R-SAM", "sam": "SAM", "asam": "ASAM"}
TAKES = {"rsam": ("sigma", "lam", "seed"), "sam": ("ascent_steps",), "asam": ("eta",)}
"""The settings of its own that an algorithm has on the two-weight problem."""
HANDED_OUT = ("rsam", "sam")
"""Those that have a page to hand out."""


@dataclass(frozen=True)
class WorkedStep:
    """One step in numbers: the weights before and after, its trace, and the settings.

    A setting that the algorithm does not have is at its default here, and is not told.
    """

    algorithm: str
    w: Array
    trace: Trace
    after: Array
    lr: float
    rho: float
    sigma: float = 0.0
    lam: float = 1.0
    eta: float = 0.0
    ascent_steps: int = 1
    seed: int = 0
    surface: Surface | None = None
    """The loss of the two-weight problem; None on a network."""
    asked: tuple[tuple[Array, Array], ...] = ()
    """On the two-weight problem, where gradients were taken, in order, and what they were."""

    @property
    def noise(self) -> Any:
        """D; only R-SAM's step has one."""
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
    def scale(self) -> Array:
        """ASAM's T = |w| + eta, the diagonal of the matrix."""
        return abs(self.w) + self.eta

    @property
    def ascent(self) -> Array:
        """The direction of the ascent before it is given its length.

        R-SAM's a = lam g0 + D, ASAM's T^2 g0, SAM's g0.
        """
        if self.algorithm == "rsam":
            return self.lam * self.g0 + self.noise
        return self.scale**2 * self.g0 if self.algorithm == "asam" else self.g0


class Asked:
    """A surface as a function that gives loss and gradient, and keeps what it was asked."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        self.seen: list[tuple[Array, Array]] = []

    def __call__(self, w: Array) -> tuple[Array, Array]:
        """The loss at w (2,), and its gradient (2,)."""
        leaf = Tensor(w, requires_grad=True)
        loss = self.surface(leaf)
        loss.backward()
        assert leaf.grad is not None
        self.seen.append((w, leaf.grad))
        return loss.data, leaf.grad


def start_of(at: tuple[float, float], lr: float) -> Array:
    """The two weights (2,) that a step starts from; ValueError where they or lr are no numbers."""
    w = xp.array(at, dtype="float64")
    if not xp.isfinite(w).all():
        raise ValueError(f"a step starts at two finite weights, not at {at}")
    if not 0 <= lr < math.inf:
        raise ValueError(f"lr is a learning rate; it must be finite and >= 0, not {lr}")
    return w


def surface_of(name: str) -> Surface:
    """The surface of this name; ValueError says which there are."""
    if name not in SURFACES:
        raise ValueError(f"unknown surface {name!r}; there are {', '.join(SURFACES)}")
    return SURFACES[name]


def two_weights(
    *,
    algorithm: str = "rsam",
    rho: float = 0.5,
    sigma: float = 0.25,
    lam: float = 2.0,
    lr: float = 0.4,
    seed: int = 14,
    eta: float = 0.01,
    ascent_steps: int = 1,
    surface: str = "ripples",
    at: tuple[float, float] = START,
) -> WorkedStep:
    """One step on a loss of two weights, to look at.

    Parameters
    ----------
    algorithm
        ``rsam``, ``sam`` or ``asam``.
    rho
        The radius, in units of the weights.
    sigma, lam, seed
        Of R-SAM: the scale of the draw, the weight of the gradient, and which draw it is. The two
        weights are one filter.
    eta
        Of ASAM: added to ``|w|``.
    ascent_steps
        Of SAM: how many steps the ascent has, each of ``rho / ascent_steps``.
    lr
        The learning rate of the base step, which is gradient descent.
    surface
        The loss, a name in `SURFACES`.
    at
        Where the step starts: the two weights.
    """
    loss_and_grad = Asked(surface_of(surface))
    w = start_of(at, lr)
    own: dict[str, Any]
    if algorithm == "rsam":
        noise = filter_noise(w, [w.shape], sigma=sigma, stream=Stream("noise", seed))
        trace = rsam_gradient(loss_and_grad, w, noise, rho=rho, lam=lam)
        own = {"sigma": sigma, "lam": lam, "seed": seed}
    elif algorithm == "asam":
        trace = asam_gradient(loss_and_grad, w, rho=rho, eta=eta)
        own = {"eta": eta}
    else:
        trace = sam_gradient(loss_and_grad, w, rho=rho, ascent_steps=ascent_steps)
        own = {"ascent_steps": ascent_steps}
    after, asked = w - lr * trace.gradient, tuple(loss_and_grad.seen)
    own |= {"surface": loss_and_grad.surface, "asked": asked}
    return WorkedStep(algorithm, w, trace, after, lr, rho, **own)


def loss_at(step: WorkedStep, w: Array) -> float:
    """The loss of the two-weight problem at other weights w (2,)."""
    assert step.surface is not None
    return step.surface(Tensor(w)).item()


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
    rho: float | None = None,
    sigma: float = 1e-3,
    lam: float = 2.0,
    lr: float = 0.1,
    seed: int = 0,
    eta: float = 0.01,
    ascent_steps: int = 1,
    epochs: int = 5,
) -> NetworkStep:
    """One step of the digits MLP 64-256-256-10 on one batch, after some epochs of SGD.

    ``rho`` is 0.3 if it is not given, for ASAM, whose radii are larger, 3.
    """
    rho = (3.0 if algorithm == "asam" else 0.3) if rho is None else rho
    split = digits_split(seed, label_noise=0.4)
    model = models.mlp([64, 256, 256, 10], seed=seed)
    train(model, SGD(0.1, momentum=0.9), split.x_train, split.y_train, epochs=epochs, seed=seed)
    index = next(batches(len(split.x_train), 64, seed, epochs))
    batch = objective(model, split.x_train[index], split.y_train[index])
    w = model.weights.flat
    before = w.copy()
    loss_before, gradient_before = batch(before)
    own: dict[str, Any]
    if algorithm == "rsam":
        trace = RSAM(SGD(lr), rho, sigma, lam, seed).step(batch, w)
        own = {"sigma": sigma, "lam": lam, "seed": seed}
    elif algorithm == "asam":
        trace = SAM(SGD(lr), rho, adaptive=True, eta=eta).step(batch, w)
        own = {"eta": eta}
    else:
        trace = SAM(SGD(lr), rho, ascent_steps=ascent_steps).step(batch, w)
        own = {"ascent_steps": ascent_steps}
    loss_after, _ = batch(w)
    step = WorkedStep(algorithm, before, trace, w.copy(), lr, rho, **own)
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
    rules = {
        "rsam": [
            ("D", "the draw around them, sigma s z", step.noise),
            ("g0", "the gradient at the smoothed weights w + D", step.g0),
            ("a", "the ascent direction, lam g0 + D", step.ascent),
            ("eps", "the perturbation, rho a / ||a||", step.eps),
        ],
        "sam": [
            ("g0", "the gradient at the weights w", step.g0),
            ("eps", "the perturbation, rho g0 / ||g0||", step.eps),
        ],
        "asam": [
            ("g0", "the gradient at the weights w", step.g0),
            ("a", "the ascent direction, T^2 g0 with T = |w| + eta", step.ascent),
            ("eps", "the perturbation, rho a / ||T g0||", step.eps),
        ],
        "k-step": [
            ("g0", "the gradient at the weights w", step.g0),
            ("eps", f"the perturbation, {step.ascent_steps} steps of rho / k", step.eps),
        ],
    }
    return [
        ("w", "the weights", step.w),
        *rules["k-step" if step.ascent_steps > 1 else step.algorithm],
        ("g", "the gradient at w + eps", step.trace.gradient),
        ("w'", "the new weights, w - lr g", step.after),
    ]


def name_of(step: WorkedStep) -> str:
    """What the algorithm is called."""
    steps = f"{step.ascent_steps}-step " if step.ascent_steps > 1 else ""
    return steps + ALGORITHMS[step.algorithm]


def first_place(step: WorkedStep) -> str:
    """Where the first gradient is taken."""
    return "w + D" if step.algorithm == "rsam" else "w"


def settings_text(step: WorkedStep) -> str:
    """The settings of a step that mean something to its algorithm, with the seed of its draw."""
    told = {"rho": step.rho}
    if step.algorithm == "rsam":
        told |= {"sigma": step.sigma, "lam": step.lam}
    if step.algorithm == "asam":
        told |= {"eta": step.eta}
    if step.ascent_steps > 1:
        told |= {"k": step.ascent_steps}
    told |= {"lr": step.lr}
    told |= {"seed": step.seed} if step.algorithm == "rsam" else {}
    return ", ".join(f"{name} {value:g}" for name, value in told.items())


def place_text(surface: Surface | None, w: Array) -> str:
    """What the loss of two weights is, and where a step on it starts."""
    assert surface is not None, "a network has no such place"
    x, y = to_host(w).tolist()
    return f"{surface.told}, from ({x:.3g}, {y:.3g})"


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
    if step.algorithm != "rsam":
        return [turned]
    return [
        ("between the gradients at w and at w + D", angle(g, step.g0)),
        ("between the ascent direction and the gradient at w", angle(step.ascent, g)),
        ("between the ascent direction and the draw", angle(step.ascent, step.noise)),
        turned,
    ]
