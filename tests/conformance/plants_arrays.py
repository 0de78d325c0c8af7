"""Wrong implementations in NumPy that are no train_step: those of right_arrays.py, changed.

Rows of name, form, algorithm, subject, code and what else is true, as plants.py takes them in.
"""

from __future__ import annotations

import numpy as np

from .right_arrays import Drawn, Flat, Holds, InPlaceLists, OverBase, gradient, length, total
from .right_handed import HoldsBoth, HoldsDict, OverGrads


class NotRestored(Flat):
    def step(self, loss_and_grad, w):
        loss, g = loss_and_grad(w)
        w += self.rho * g / length(g)
        self.down(w, loss_and_grad(w)[1])
        return loss


class FirstGradient(Flat):
    def step(self, loss_and_grad, w):
        loss, g = loss_and_grad(w)
        loss_and_grad(self.up(w, g))
        self.down(w, g)
        return loss


class Descends(Flat):
    def up(self, w, g):
        return w - self.rho * g / length(g)


class RadiusFixed(Flat):
    def up(self, w, g):
        return w + 0.05 * g / length(g)


class DecaysAbove(Flat):
    def step(self, loss_and_grad, w):
        loss, g = loss_and_grad(w)
        up = self.up(w, g)
        _, g = loss_and_grad(up)
        self.velocity = self.momentum * self.velocity + g + self.weight_decay * up
        w -= self.lr * self.velocity
        return loss


class Forgets(InPlaceLists):
    def state_dict(self):
        return {}


class StepsTwice(OverBase):
    def update(self, theta, value_and_grad):
        _, g = value_and_grad(theta)
        self.base.move(theta, g)
        _, g = value_and_grad(theta + self.rho / length(g) * g)
        self.base.move(theta, g)


class HeldAbove(Holds):
    def step(self, loss_and_grad):
        loss, g = loss_and_grad(self.w)
        self.w = self.w + self.rho / length(g) * g
        self.w = self.w - self.lr * loss_and_grad(self.w)[1]
        return loss


class NesterovOfDict(HoldsDict):
    def direction(self, d, v):
        return d + self.momentum * v


class GoesUp(HoldsBoth):
    sign = 1.0


class BaseAbove(OverGrads):
    """The base steps from where the gradient was taken."""

    def step(self, params, loss_and_grad):
        loss, grads = loss_and_grad(params)
        scale = self.rho / total(grads)
        for p, g in zip(params, grads):
            p += scale * g
        self.base.step(params, loss_and_grad(params)[1])
        return loss


def velocity_unused(w, grad_fn, velocity=None, *, lr, rho, momentum):
    """It is returned, and never looked at."""
    g = grad_fn(w)
    velocity = grad_fn(w + rho * g / length(g))
    return w - lr * velocity, velocity


def by_tensor(params, loss_and_grad, lr, rho):
    """A dict, and every array by its own norm."""
    _, g = loss_and_grad(params)
    up = {k: w + rho * g[k] / (np.linalg.norm(g[k]) + 1e-12) for k, w in params.items()}
    _, g = loss_and_grad(up)
    return {k: w - lr * g[k] for k, w in params.items()}


def left_above(weights, loss_and_grad, rho, lr):
    """In place, and the perturbation stays."""
    _, gs = loss_and_grad(weights)
    scale = rho / total(gs)
    for w, g in zip(weights, gs):
        w += scale * g
    _, gs = loss_and_grad(weights)
    for w, g in zip(weights, gs):
        w -= lr * g


def makes_twice(rho, lr):
    def step(w, loss_and_grad):
        return w - lr * gradient(loss_and_grad, w, 2 * rho)

    return step


def first_gradient(loss_and_grad, w, rho):
    loss, g = loss_and_grad(w)
    loss_and_grad(w + rho / length(g) * g)
    return loss, g


def both_gradients(loss_and_grad, w, rho):
    return loss_and_grad(w)[1] + gradient(loss_and_grad, w, rho)


def unit_gradient(loss_and_grad, w, rho):
    g = gradient(loss_and_grad, w, rho)
    return {"gradient": g / length(g)}


def gradient_left_above(loss_and_grad, w, rho):
    """The gradient is right, and w is left perturbed."""
    _, g = loss_and_grad(w)
    w += rho / length(g) * g
    return loss_and_grad(w)[1]


def squared(loss_and_grad, w, rho):
    _, g = loss_and_grad(w)
    return loss_and_grad(w + rho * g / (g @ g + 1e-12))[1]


def update_down(loss_and_grad, w, rho, lr):
    return -lr * gradient(loss_and_grad, w, -rho)


class Unscaled(Drawn):
    @staticmethod
    def scale(w):
        return 1.0


class SameDraw(Drawn):
    def draw(self, weights):
        self.rng = np.random.default_rng(0)
        return super().draw(weights)


class FromTheDraw(Drawn):
    def start(self, w, d):
        return w + d


ROWS = [
    ("arrays-not-restored", "sam", NotRestored, "restore.not-undone"),
    ("arrays-first-gradient", "sam", FirstGradient, "update.uses-first-gradient"),
    ("arrays-descends", "sam", Descends, "ascent.descends"),
    ("arrays-radius-fixed", "sam", RadiusFixed, "ascent.radius-ignored"),
    ("arrays-decays-above", "sam", DecaysAbove, "update.decay-at-perturbed"),
    ("arrays-forgets", "sam", Forgets, "resume.momentum-lost"),
    ("arrays-steps-twice", "sam", StepsTwice, "update.two-steps"),
    ("arrays-held-above", "sam", HeldAbove, "restore.not-undone"),
    ("arrays-holds-nesterov", "asam", NesterovOfDict, "update.nesterov"),
    ("arrays-goes-up", "sam", GoesUp, "update.ascends"),
    ("arrays-base-above", "sam", BaseAbove, "restore.not-undone"),
    ("arrays-velocity-unused", "sam", velocity_unused, "update.momentum-missing"),
    ("arrays-by-tensor", "sam", by_tensor, "ascent.norm-per-tensor"),
    ("arrays-left-above", "sam", left_above, "restore.not-undone"),
    ("arrays-twice-the-radius", "sam", makes_twice, "ascent.wrong-radius"),
    ("arrays-gives-first-gradient", "sam", first_gradient, "update.uses-first-gradient"),
    ("arrays-gives-both", "sam", both_gradients, "update.gradients-added"),
    ("arrays-gives-a-unit", "sam", unit_gradient, "update.normalised-gradient"),
    ("arrays-gradient-left-above", "sam", gradient_left_above, "restore.not-undone"),
    ("arrays-squared", "sam", squared, "ascent.squared-norm"),
    ("arrays-update-down", "sam", update_down, "ascent.descends"),
    ("arrays-unscaled", "rsam", Unscaled, "noise.unscaled"),
    ("arrays-same-draw", "rsam", SameDraw, "noise.same-draw"),
    ("arrays-from-the-draw", "rsam", FromTheDraw, "direction.measured-from-noise"),
]
PLANTS = [(name, "function", algorithm, subject, code) for name, algorithm, subject, code in ROWS]
