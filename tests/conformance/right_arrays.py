"""Right implementations in NumPy that are no train_step: classes, steps in place, gradients.

Rows of name, form, algorithm, subject, as right.py takes them in.
"""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field

import numpy as np

import rsam_ref

TINY = 1e-12


def length(g):
    return np.sqrt(g @ g) + TINY


def total(gs):
    return np.sqrt(sum((g * g).sum() for g in gs)) + TINY


class Flat:
    """One flat vector, in place; the first pass's loss is returned."""

    def __init__(self, lr=0.1, rho=0.05, momentum=0.9, weight_decay=0.0):
        self.lr, self.rho, self.momentum, self.weight_decay = lr, rho, momentum, weight_decay
        self.velocity = 0.0

    def step(self, loss_and_grad, w):
        loss, g = loss_and_grad(w)
        _, g = loss_and_grad(self.up(w, g))
        self.down(w, g)
        return loss

    def up(self, w, g):
        return w + self.rho * g / length(g)

    def down(self, w, g):
        self.velocity = self.momentum * self.velocity + g + self.weight_decay * w
        w -= self.lr * self.velocity


class InPlaceLists:
    """Settings in a dict, nothing returned, a state_dict."""

    def __init__(self, learning_rate, radius, mu, wd):
        self.settings = {"rate": learning_rate, "radius": radius, "mu": mu, "wd": wd}
        self.buffers = {}

    def minimize(self, loss_and_grad, weights):
        s, old = self.settings, [w.copy() for w in weights]
        _, gs = loss_and_grad(weights)
        for w, g in zip(weights, gs):
            w += s["radius"] / total(gs) * g
        _, gs = loss_and_grad(weights)
        for i, (w, o, g) in enumerate(zip(weights, old, gs)):
            w[...] = o
            self.buffers[i] = s["mu"] * self.buffers.get(i, 0.0) + g + s["wd"] * w
            w -= s["rate"] * self.buffers[i]

    def state_dict(self):
        return {i: v.copy() for i, v in self.buffers.items()}

    def load_state_dict(self, state):
        self.buffers = dict(state)


class OwnSGD:
    def __init__(self, lr, momentum=0.0, weight_decay=0.0):
        self.lr, self.momentum, self.weight_decay, self.velocity = lr, momentum, weight_decay, 0.0

    def move(self, w, g):
        self.velocity = self.momentum * self.velocity + g + self.weight_decay * w
        w -= self.lr * self.velocity


class OverBase:
    """A base optimizer is handed in: that of this file."""

    def __init__(self, base, rho):
        self.base, self.rho = base, rho

    def update(self, theta, value_and_grad):
        _, g = value_and_grad(theta)
        _, g = value_and_grad(theta + self.rho / length(g) * g)
        self.base.move(theta, g)


class OverClass(OverBase):
    """It is handed in as a class, with what it is made with."""

    def __init__(self, base_cls, rho=0.05, **settings):
        super().__init__(base_cls(**settings), rho)


@dataclass
class Settings:
    lr: float = 0.1
    rho: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4


class Configured:
    """A dataclass of settings; new weights are returned, and the loss."""

    def __init__(self, config: Settings):
        self.config, self.velocity = config, 0.0

    def apply(self, w, grad_fn):
        c, g = self.config, grad_fn(w)
        g = grad_fn(w + c.rho / length(g) * g)
        self.velocity = c.momentum * self.velocity + g + c.weight_decay * w
        return w - c.lr * self.velocity, float(np.linalg.norm(g))


@dataclass
class OfDict:
    """A dict of arrays, whose entries are replaced."""

    lr: float = 0.1
    rho: float = 0.05
    momentum: float = 0.0
    velocity: dict = field(default_factory=dict)

    def step(self, loss_and_grad, params):
        loss, g = loss_and_grad(params)
        norm = total(g.values())
        _, g = loss_and_grad({k: w + self.rho / norm * g[k] for k, w in params.items()})
        for k in params:
            self.velocity[k] = self.momentum * self.velocity.get(k, 0.0) + g[k]
            params[k] = params[k] - self.lr * self.velocity[k]
        return {"loss": loss, "norm": norm}


class Holds:
    """It is made with the weights, and replaces them in its attribute."""

    def __init__(self, w, lr=0.1, rho=0.05):
        self.w, self.lr, self.rho = w, lr, rho

    def step(self, loss_and_grad):
        loss, g = loss_and_grad(self.w)
        self.w = self.w - self.lr * loss_and_grad(self.w + self.rho / length(g) * g)[1]
        return loss


class Asks:
    """It is made with the function of the loss."""

    def __init__(self, loss_and_grad, lr, rho, momentum=0.9):
        self.ask, self.lr, self.rho, self.momentum = loss_and_grad, lr, rho, momentum
        self.velocity = 0.0

    def step(self, w):
        _, g = self.ask(w)
        _, g = self.ask(w + self.rho / length(g) * g)
        self.velocity = self.momentum * self.velocity + g
        return w - self.lr * self.velocity


def maker(lr, rho, momentum=0.9):
    """A closure over its velocity, which nobody can save."""
    velocity = 0.0

    def step(f, w):
        nonlocal velocity
        _, g = f(w)
        _, g = f(w + rho / length(g) * g)
        velocity = momentum * velocity + g
        w -= lr * velocity

    return step


def make(hyper):
    return Flat(hyper.lr, hyper.rho, hyper.momentum, hyper.weight_decay)


def in_place(w, loss_and_grad, rho, lr):
    _, g = loss_and_grad(w)
    w -= lr * loss_and_grad(w + rho / length(g) * g)[1]


def with_velocity(w, v, f, lr=0.1, momentum=0.9, rho=0.05):
    _, g = f(w)
    v = momentum * v + f(w + rho / length(g) * g)[1]
    return w - lr * v, v


def gradient(loss_and_grad, w, rho):
    _, g = loss_and_grad(w)
    return loss_and_grad(w + rho / length(g) * g)[1]


def loss_and_gradients(weights, loss_and_grad, *, rho=0.05):
    loss, gs = loss_and_grad(weights)
    scale = rho / total(gs)
    return loss, loss_and_grad([w + scale * g for w, g in zip(weights, gs)])[1]


Seen = namedtuple("Seen", "loss w_adv gradient")


def named(loss_and_grad, w, rho, weight_decay):
    """The gradient has the weight decay in it already."""
    loss, g = loss_and_grad(w)
    up = w + rho / length(g) * g
    return Seen(loss, up, loss_and_grad(up)[1] + weight_decay * w)


def update(loss_and_grad, w, rho, lr):
    return -lr * gradient(loss_and_grad, w, rho)


def filter_norm(w):
    if w.ndim == 1:
        return np.linalg.norm(w) + 1e-16
    return np.sqrt((w**2).sum(axis=tuple(range(1, w.ndim)), keepdims=True))


class Drawn:
    """R-SAM on a list, with a generator of its own."""

    scale = staticmethod(filter_norm)

    def __init__(self, lr, rho, sigma, lam, momentum=0.9, weight_decay=0.0, seed=0):
        self.lr, self.rho, self.sigma, self.lam = lr, rho, sigma, lam
        self.momentum, self.weight_decay = momentum, weight_decay
        self.rng, self.velocity = np.random.default_rng(seed), [0.0] * 99

    def draw(self, weights):
        return [self.sigma * self.scale(w) * self.rng.standard_normal(w.shape) for w in weights]

    def start(self, w, d):
        return w

    def step(self, loss_and_grad, weights):
        ds = self.draw(weights)
        loss, gs = loss_and_grad([w + d for w, d in zip(weights, ds)])
        a = [self.lam * g + d for g, d in zip(gs, ds)]
        scale = self.rho / total(a)
        up = [self.start(w, d) + scale * x for w, d, x in zip(weights, ds, a)]
        _, gs = loss_and_grad(up)
        for i, (w, g) in enumerate(zip(weights, gs)):
            self.velocity[i] = self.momentum * self.velocity[i] + g + self.weight_decay * w
            w -= self.lr * self.velocity[i]
        return loss


def drawn_gradient(f, weights, rng, sigma, lam, rho):
    ds = [sigma * filter_norm(w) * rng.standard_normal(w.shape) for w in weights]
    _, gs = f([w + d for w, d in zip(weights, ds)])
    a = [lam * g + d for g, d in zip(gs, ds)]
    scale = rho / total(a)
    return f([w + scale * x for w, x in zip(weights, a)])[1]


ROWS = [
    ("arrays-flat", "sam", Flat),
    ("arrays-lists-in-place", "sam", InPlaceLists),
    ("arrays-over-a-base", "sam", OverBase),
    ("arrays-over-a-class", "sam", OverClass),
    ("arrays-configured", "sam", Configured),
    ("arrays-of-a-dict", "sam", OfDict),
    ("arrays-held", "sam", Holds),
    ("arrays-made-with-the-loss", "sam", Asks),
    ("arrays-closure", "sam", maker),
    ("arrays-made-of-hyper", "sam", make),
    ("arrays-function-in-place", "sam", in_place),
    ("arrays-with-velocity", "sam", with_velocity),
    ("arrays-gradient", "sam", gradient),
    ("arrays-loss-and-gradients", "sam", loss_and_gradients),
    ("arrays-gradient-by-name", "sam", named),
    ("arrays-update", "sam", update),
    ("arrays-rsam", "rsam", Drawn),
    ("arrays-rsam-gradient", "rsam", drawn_gradient),
    ("arrays-own-sam", "sam", rsam_ref.SAM),
    ("arrays-own-asam", "asam", rsam_ref.SAM),
    ("arrays-own-rsam", "rsam", rsam_ref.RSAM),
    ("arrays-own-sam-gradient", "sam", rsam_ref.sam_gradient),
    ("arrays-own-rsam-gradient", "rsam", rsam_ref.rsam_gradient),
    ("arrays-object", "sam", Flat(0.05, 0.02)),
    ("arrays-method", "sam", Flat(0.05, 0.02).step),
]
RIGHT = [(name, "function", algorithm, subject) for name, algorithm, subject in ROWS]
