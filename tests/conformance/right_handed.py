"""Right implementations in NumPy by what is handed to them: a velocity that is given back, a base
optimizer, weights and the function of the loss in a constructor.

Rows of name, form, algorithm, subject, as right.py takes them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .right_arrays import filter_norm, length, total


def velocity_of_a_dict(params, grads_fn, velocity=None, *, lr, rho, momentum=0.0, weight_decay=0.0):
    g = grads_fn(params)
    scale = rho / total(g.values())
    g = grads_fn({k: w + scale * g[k] for k, w in params.items()})
    d = {k: g[k] + weight_decay * w for k, w in params.items()}
    if velocity is None:
        velocity = d
    else:
        velocity = {k: momentum * velocity[k] + d[k] for k in params}
    return {k: w - lr * velocity[k] for k, w in params.items()}, velocity


def velocity_of_a_vector(w, grad_fn, v=None, lr=0.1, rho=0.05, mu=0.9):
    g = grad_fn(w)
    g = grad_fn(w + rho * g / length(g))
    v = g if v is None else mu * v + g
    return w - lr * v, v


def velocity_of_a_list(ws, grad_fn, lr, rho, momentum=0.0, momentum_buffer=None):
    """The last parameter, between the loss and the weights in what is returned."""
    gs = grad_fn(ws)
    scale = rho / total(gs)
    gs = grad_fn([w + scale * g for w, g in zip(ws, gs)])
    if momentum_buffer is not None:
        gs = [momentum * b + g for b, g in zip(momentum_buffer, gs)]
    return [w - lr * g for w, g in zip(ws, gs)], 0.5, gs


def own_name(w, grad_fn, *, lr, rho, momentum, inertia=None):
    """A name that nobody knows: the function returns it."""
    g = grad_fn(w)
    g = grad_fn(w + rho * g / length(g))
    inertia = g if inertia is None else momentum * inertia + g
    return w - lr * inertia, inertia


def alone_in_place(w, grad_fn, lr, rho, momentum, velocity=None):
    """The caller's array, where there is one, is changed; nothing is returned."""
    g = grad_fn(w)
    g = grad_fn(w + rho * g / length(g))
    if velocity is not None:
        velocity *= momentum
        velocity += g
        g = velocity
    w -= lr * g


def state_is_none(w, grad_fn, opt_state=None, lr=0.1, rho=0.05, mu=0.9):
    if opt_state is None:
        opt_state = np.zeros_like(w)
    g = grad_fn(w)
    opt_state = mu * opt_state + grad_fn(w + rho * g / length(g))
    return w - lr * opt_state, opt_state


def draw_is_returned(w, grad_fn, rng, noise=None, buf=None, *, lr, rho, sigma, lam, momentum):
    """Nothing that belongs to one step is given back to the next."""
    if noise is None:
        noise = [sigma * filter_norm(x) * rng.standard_normal(x.shape) for x in w]
    g = grad_fn([x + d for x, d in zip(w, noise)])
    a = [lam * y + d for y, d in zip(g, noise)]
    scale = rho / total(a)
    g = grad_fn([x + scale * y for x, y in zip(w, a)])
    buf = g if buf is None else [momentum * b + y for b, y in zip(buf, g)]
    return [x - lr * b for x, b in zip(w, buf)], buf, noise


def gradient_is_returned(w, loss_and_grad, grad=None, *, lr, rho):
    """The first gradient may be given, of these weights alone."""
    if grad is None:
        _, grad = loss_and_grad(w)
    _, g = loss_and_grad(w + rho * grad / length(grad))
    return w - lr * g, grad


def one_of_many(w, v, t, grad_fn, lr, rho, momentum, weight_decay):
    """The function of the gradient comes late among the parameters."""
    g = grad_fn(w)
    v = momentum * v + grad_fn(w + rho * g / length(g)) + weight_decay * w
    return w - lr * v, v, t + 1


def with_velocity(ws, loss_and_grad, v, hyper):
    """Loss, first gradient, new weights and new velocity of a step on a list."""
    loss, first = loss_and_grad(ws)
    scale = hyper["rho"] / total(first)
    _, gs = loss_and_grad([w + scale * g for w, g in zip(ws, first)])
    gs = [g + hyper["weight_decay"] * w for g, w in zip(gs, ws)]
    v = [hyper["momentum"] * a + g for a, g in zip(v, gs)] if v else gs
    return loss, first, [w - hyper["lr"] * a for w, a in zip(ws, v)], v


def velocity_within(ws, loss_and_grad, velocity=None, *, lr, rho, momentum, weight_decay):
    """The loss, and beside it a pair of weights and velocity."""
    hyper = {"lr": lr, "rho": rho, "momentum": momentum, "weight_decay": weight_decay}
    loss, _, ws, velocity = with_velocity(ws, loss_and_grad, velocity, hyper)
    return loss, (ws, velocity)


def velocity_among_more(ws, loss_and_grad, velocity=None, *, lr, rho, momentum, weight_decay):
    """Beside the weights a dict, in which a gradient stands before the velocity."""
    hyper = {"lr": lr, "rho": rho, "momentum": momentum, "weight_decay": weight_decay}
    loss, first, ws, velocity = with_velocity(ws, loss_and_grad, velocity, hyper)
    return ws, {"loss": loss, "first": first, "velocity": velocity}


def state_within(ws, loss_and_grad, state, hyper):
    loss, _, ws, v = with_velocity(ws, loss_and_grad, state.get("v"), hyper)
    return loss, (ws, {"v": v})


@dataclass
class All:
    """All that a step needs."""

    params: list
    velocity: list | None = None
    step: int = 0


def all_in_one(state: All, loss_and_grad, hyper):
    _, _, ws, v = with_velocity(state.params, loss_and_grad, state.velocity, hyper)
    return All(ws, v, state.step + 1), {"step": state.step}


def all_in_one_changed(state, loss_and_grad, hyper):
    """The same object, changed; nothing says of which class it is."""
    loss, _, state.params, state.velocity = with_velocity(
        state.params, loss_and_grad, state.velocity, hyper
    )
    state.step += 1
    return loss


class WithDraws(NamedTuple):
    """It holds the random generator as well."""

    w: list
    buf: list
    rng: np.random.Generator


def all_in_one_drawn(carry: WithDraws, grad_fn, lr, rho, sigma, lam, momentum):
    noise = [sigma * filter_norm(x) * carry.rng.standard_normal(x.shape) for x in carry.w]
    g = grad_fn([x + d for x, d in zip(carry.w, noise)])
    a = [lam * y + d for y, d in zip(g, noise)]
    scale = rho / total(a)
    g = grad_fn([x + scale * y for x, y in zip(carry.w, a)])
    buf = [momentum * b + y for b, y in zip(carry.buf, g)]
    return carry._replace(w=[x - lr * b for x, b in zip(carry.w, buf)], buf=buf)


class Updates:
    """Its update is given the gradient, and a function for the next."""

    def __init__(self, lr=0.1, rho=0.05, momentum=0.9):
        self.lr, self.rho, self.momentum, self.v = lr, rho, momentum, None

    def update(self, params, grads, loss_and_grad):
        scale = self.rho / total(grads)
        _, gs = loss_and_grad([p + scale * g for p, g in zip(params, grads)])
        self.v = [self.momentum * v + g for v, g in zip(self.v, gs)] if self.v else gs
        return [p - self.lr * v for p, v in zip(params, self.v)]


class SGD:
    """Its step takes gradients, under the name that a function of them may have."""

    def __init__(self, lr=0.1, momentum=0.0, weight_decay=0.0):
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.bufs = None

    def step(self, params, grads):
        if self.bufs is None:
            self.bufs = [np.zeros_like(p) for p in params]
        for i, (p, g) in enumerate(zip(params, grads)):
            self.bufs[i] = self.momentum * self.bufs[i] + g + self.weight_decay * p
            p -= self.lr * self.bufs[i]


class OverGrads:
    def __init__(self, base_optimizer, rho=0.05):
        self.base, self.rho = base_optimizer, rho

    def step(self, params, loss_and_grad):
        loss, grads = loss_and_grad(params)
        scale = self.rho / total(grads)
        _, grads = loss_and_grad([p + scale * g for p, g in zip(params, grads)])
        self.base.step(params, grads)
        return loss


class OverNone(OverGrads):
    """A base of its own where none is given."""

    def __init__(self, rho=0.05, base_optimizer=None):
        super().__init__(base_optimizer or SGD(), rho)


class OverCalled(OverGrads):
    """What is given is called: it is to be a class, though its name does not say so."""

    def __init__(self, base_optimizer, rho=0.05, **kwargs):
        super().__init__(base_optimizer(**kwargs), rho)


class OverDefault(OverCalled):
    """The class is the default."""

    def __init__(self, rho=0.05, base_optimizer=SGD, **kwargs):
        super().__init__(base_optimizer, rho, **kwargs)


class Rule:
    """Plain descent with momentum, by another name, and no weight decay."""

    def __init__(self, lr, momentum=0.0):
        self.lr, self.momentum, self.velocity = lr, momentum, None

    def update(self, params, gradients):
        old = self.velocity or [0.0] * len(params)
        self.velocity = [self.momentum * v + g for v, g in zip(old, gradients)]
        return [p - self.lr * v for p, v in zip(params, self.velocity)]


class OverAnnotated:
    def __init__(self, base: Rule, rho: float):
        self.base, self.rho = base, rho

    def step(self, params, grad_fn):
        grads = grad_fn(params)
        scale = self.rho / total(grads)
        return self.base.update(params, grad_fn([p + scale * g for p, g in zip(params, grads)]))


class SGDOfParams:
    """It is made with the weights."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0):
        self.params, self.inner = params, SGD(lr, momentum, weight_decay)

    def step(self, grads):
        self.inner.step(self.params, grads)


class OverParams:
    """It is made with the weights, and makes its base with them."""

    def __init__(self, params, base_optimizer: type[SGDOfParams], rho=0.05, **kwargs):
        self.params, self.rho = params, rho
        self.base = base_optimizer(params, **kwargs)

    def step(self, loss_and_grad):
        loss, gs = loss_and_grad(self.params)
        scale = self.rho / total(gs)
        _, gs = loss_and_grad([p + scale * g for p, g in zip(self.params, gs)])
        self.base.step(gs)
        return loss


class HoldsVector:
    def __init__(self, params, lr=0.1, rho=0.05, momentum=0.0, weight_decay=0.0):
        self.w, self.lr, self.rho = params, lr, rho
        self.momentum, self.weight_decay = momentum, weight_decay
        self.v = np.zeros(params.shape)

    def step(self, grad_fn):
        g = grad_fn(self.w)
        g = grad_fn(self.w + self.rho * g / length(g)) + self.weight_decay * self.w
        self.v = self.momentum * self.v + g
        self.w -= self.lr * self.v


class HoldsDict:
    def __init__(self, params, lr=0.1, rho=0.5, eta=0.01, momentum=0.9, weight_decay=0.0):
        self.params, self.lr, self.rho, self.eta = params, lr, rho, eta
        self.momentum, self.weight_decay = momentum, weight_decay
        self.v = {k: np.zeros_like(p) for k, p in params.items()}

    def step(self, grad_fn):
        p, g = self.params, grad_fn(self.params)
        t = {k: np.abs(p[k]) + self.eta for k in p}
        scale = self.rho / total([t[k] * g[k] for k in p])
        g = grad_fn({k: p[k] + scale * t[k] ** 2 * g[k] for k in p})
        for k in p:
            d = g[k] + self.weight_decay * p[k]
            self.v[k] = self.momentum * self.v[k] + d
            p[k] -= self.lr * self.direction(d, self.v[k])

    def direction(self, d, v):
        return v


def make_holder(params, hyper):
    """A factory of the weights and the settings, which fails with a list."""
    return HoldsDict(params, hyper.lr, hyper.rho, hyper.eta, hyper.momentum, hyper.weight_decay)


class HoldsBoth:
    """It is made with the weights and the function of the loss: its step takes nothing."""

    sign = -1.0

    def __init__(self, params, loss_and_grad, lr=0.1, rho=0.05, momentum=0.9):
        self.params, self.f, self.lr, self.rho, self.momentum = (
            params,
            loss_and_grad,
            lr,
            rho,
            momentum,
        )
        self.v = [np.zeros_like(p) for p in params]

    def step(self):
        loss, gs = self.f(self.params)
        scale = self.rho / total(gs)
        _, gs = self.f([p + scale * g for p, g in zip(self.params, gs)])
        for p, v, g in zip(self.params, self.v, gs):
            v[...] = self.momentum * v + g
            p += self.sign * self.lr * v
        return loss


ROWS = [
    ("arrays-velocity-of-a-dict", "sam", velocity_of_a_dict),
    ("arrays-velocity-of-a-vector", "sam", velocity_of_a_vector),
    ("arrays-velocity-of-a-list", "sam", velocity_of_a_list),
    ("arrays-velocity-by-own-name", "sam", own_name),
    ("arrays-velocity-in-place", "sam", alone_in_place),
    ("arrays-state-is-none", "sam", state_is_none),
    ("arrays-rsam-draw-returned", "rsam", draw_is_returned),
    ("arrays-gradient-returned", "sam", gradient_is_returned),
    ("arrays-one-of-many", "sam", one_of_many),
    ("arrays-velocity-within", "sam", velocity_within),
    ("arrays-velocity-among-more", "sam", velocity_among_more),
    ("arrays-state-within", "sam", state_within),
    ("arrays-all-in-one", "sam", all_in_one),
    ("arrays-all-in-one-changed", "sam", all_in_one_changed),
    ("arrays-rsam-all-in-one", "rsam", all_in_one_drawn),
    ("arrays-update-of-gradients", "sam", Updates),
    ("arrays-base-takes-grads", "sam", OverGrads),
    ("arrays-base-or-own", "sam", OverNone),
    ("arrays-base-is-called", "sam", OverCalled),
    ("arrays-base-by-default", "sam", OverDefault),
    ("arrays-base-annotated", "sam", OverAnnotated),
    ("arrays-base-of-weights", "sam", OverParams),
    ("arrays-holds-a-vector", "sam", HoldsVector),
    ("arrays-holds-a-dict", "asam", HoldsDict),
    ("arrays-makes-a-holder", "asam", make_holder),
    ("arrays-holds-both", "sam", HoldsBoth),
]
RIGHT = [(name, "function", algorithm, subject) for name, algorithm, subject in ROWS]
