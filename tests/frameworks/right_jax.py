"""Right steps in JAX, in the styles of its users: the checker must let all of them through."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


def length(tree):
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree)))


def moved(params, direction, by):
    return jax.tree.map(lambda p, d: p + by * d, params, direction)


def with_momentum(params, velocity, grads, hyper):
    grads = moved(grads, params, hyper["weight_decay"])
    velocity = jax.tree.map(lambda v, g: hyper["momentum"] * v + g, velocity, grads)
    return moved(params, velocity, -hyper["lr"]), velocity


@partial(jax.jit, static_argnames="loss_fn")
def sam_outside(params, velocity, batch, loss_fn, hyper):
    """jit on the outside, all settings together, momentum by hand."""
    loss, grads = jax.value_and_grad(loss_fn)(params, batch)
    up = moved(params, grads, hyper["rho"] / (length(grads) + 1e-12))
    params, velocity = with_momentum(params, velocity, jax.grad(loss_fn)(up, batch), hyper)
    return params, velocity, loss


def make_step(loss_fn, tx, rho):
    """A factory, as where the loss is to be static."""

    @jax.jit
    def step(params, opt_state, x, y):
        grads = jax.grad(loss_fn)(params, x, y)
        up = moved(params, grads, rho / (optax.global_norm(grads) + 1e-12))
        updates, opt_state = tx.update(jax.grad(loss_fn)(up, x, y), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return step


class Trainer:
    """An object whose step is compiled; the loss gives logits beside it."""

    def __init__(self, loss_fn, learning_rate=0.1, rho=0.05):
        self.loss_fn, self.rho = loss_fn, rho
        self.tx = optax.adamw(learning_rate)

    def init(self, params):
        return self.tx.init(params)

    @partial(jax.jit, static_argnums=0)
    def step(self, params, opt_state, batch):
        both = jax.value_and_grad(self.loss_fn, has_aux=True)
        (loss, logits), grads = both(params, batch)
        hits = jnp.argmax(logits, -1) == batch["label"]
        scale = self.rho / (length(grads) + 1e-12)
        _, grads = both(moved(params, grads, scale), batch)
        updates, opt_state = self.tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        return params, opt_state, {"loss": loss, "accuracy": hits.mean()}


class CompiledWhenMade:
    """An object that compiles its step in its constructor."""

    def __init__(self, loss_fn, tx, rho):
        self.grad, self.tx, self.rho = jax.grad(loss_fn), tx, rho
        self.train_step = jax.jit(self._moved)

    def _moved(self, params, opt_state, batch):
        grads = self.grad(params, batch)
        up = moved(params, grads, self.rho / (length(grads) + 1e-12))
        updates, opt_state = self.tx.update(self.grad(up, batch), opt_state, params)
        return optax.apply_updates(params, updates), opt_state


@partial(jax.jit, static_argnames="rho")
def with_train_state(state, batch, rho):
    """All in a TrainState; the loss is the step's own, of the state's apply_fn."""

    def loss_fn(params):
        logits = state.apply_fn({"params": params}, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    up = moved(state.params, grads, rho / (optax.global_norm(grads) + 1e-12))
    return state.apply_gradients(grads=jax.grad(loss_fn)(up)), loss


@partial(jax.jit, static_argnums=2)
def pairs(params, batch, loss_fn, step_size, rho):
    """A list of pairs (weights, bias), and no state."""
    grads = jax.grad(loss_fn)(params, batch)
    scale = rho / (length(grads) + 1e-12)
    up = [(w + scale * dw, b + scale * db) for (w, b), (dw, db) in zip(params, grads)]
    grads = jax.grad(loss_fn)(up, batch)
    return [(w - step_size * dw, b - step_size * db) for (w, b), (dw, db) in zip(params, grads)]


class State(NamedTuple):
    params: Any
    opt_state: Any
    key: Any


def filter_norm(p, axes):
    if p.ndim < 2:
        return jnp.linalg.norm(p)
    return jnp.sqrt(jnp.sum(p * p, axis=axes(p.ndim), keepdims=True))


def all_but_first(ndim):
    return tuple(range(1, ndim))


def all_but_last(ndim):
    return tuple(range(ndim - 1))


def drawn(key, params, sigma, axes=all_but_first):
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten(
        sigma * filter_norm(p, axes) * jax.random.normal(k, p.shape, p.dtype)
        for k, p in zip(keys, leaves)
    )


def rsam_gradient(loss_fn, params, batch, key, rho, sigma, lam, axes=all_but_first):
    noise = drawn(key, params, sigma, axes)
    loss, first = jax.value_and_grad(loss_fn)(moved(params, noise, 1.0), batch)
    ascent = jax.tree.map(lambda g, d: lam * g + d, first, noise)
    up = moved(params, ascent, rho / (length(ascent) + 1e-12))
    return loss, jax.grad(loss_fn)(up, batch)


@partial(jax.jit, static_argnames="loss_fn")
def rsam_with_key(params, opt_state, batch, rng, loss_fn, hyper):
    """The key is split inside and given back."""
    rng, key = jax.random.split(rng)
    how = hyper["rho"], hyper["sigma"], hyper["lam"]
    loss, grads = rsam_gradient(loss_fn, params, batch, key, *how)
    params, opt_state = with_momentum(params, opt_state, grads, hyper)
    return params, opt_state, rng, loss


@partial(jax.jit, static_argnames=("loss_fn", "tx"))
def rsam_in_state(state: State, batch, loss_fn, tx, rho, sigma, lam):
    """A NamedTuple of its own that holds all, the key too."""
    key, sub = jax.random.split(state.key)
    _, grads = rsam_gradient(loss_fn, state.params, batch, sub, rho, sigma, lam)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    return State(optax.apply_updates(state.params, updates), opt_state, key)


@partial(jax.jit, static_argnames=("loss_fn", "tx"))
def rsam_in_bare_state(state, batch, loss_fn, tx, rho, sigma, lam):
    """The same, and no annotation says which class the state is of."""
    key, sub = jax.random.split(state.key)
    _, grads = rsam_gradient(loss_fn, state.params, batch, sub, rho, sigma, lam)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    return state._replace(
        params=optax.apply_updates(state.params, updates), opt_state=opt_state, key=key
    )


@partial(jax.jit, static_argnames="loss_fn")
def rsam_as_flax(params, momentum_state, batch, key, loss_fn, hyper):
    """Filters along the last axis, as Flax has them."""
    how = hyper["rho"], hyper["sigma"], hyper["lam"]
    loss, grads = rsam_gradient(loss_fn, params, batch, key, *how, all_but_last)
    return (*with_momentum(params, momentum_state, grads, hyper), loss)


@partial(jax.jit, static_argnames="loss_fn")
def asam(params, velocity, batch, loss_fn, hyper):
    reach = jax.tree.map(lambda p: jnp.abs(p) + hyper["eta"], params)
    grads = jax.grad(loss_fn)(params, batch)
    scaled = jax.tree.map(jnp.multiply, reach, grads)
    along = jax.tree.map(jnp.multiply, reach, scaled)
    up = moved(params, along, hyper["rho"] / (length(scaled) + 1e-12))
    return with_momentum(params, velocity, jax.grad(loss_fn)(up, batch), hyper)


def accumulated(params, opt_state, batch, loss_fn, tx, rho):
    """Every gradient in two halves of the batch."""
    halves = [jax.tree.map(lambda a, at=at: a[at], batch) for at in (slice(0, 4), slice(4, 8))]

    def gradient(at):
        grads = [jax.grad(loss_fn)(at, half) for half in halves]
        return jax.tree.map(lambda a, b: (a + b) / 2, *grads)

    grads = gradient(params)
    up = moved(params, grads, rho / (length(grads) + 1e-12))
    updates, opt_state = tx.update(gradient(up), opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def perturbed_inside(params, opt_state, batch, loss_fn, tx, rho):
    """The ascent is a constant within the loss that is differentiated."""

    def sharp(p):
        grads, logits = jax.grad(loss_fn, has_aux=True)(p, batch)
        eps = jax.lax.stop_gradient(moved(grads, grads, rho / (length(grads) + 1e-12) - 1))
        return loss_fn(moved(p, eps, 1.0), batch)[0], logits

    grads, _ = jax.grad(sharp, has_aux=True)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


RIGHT = {
    "sam": [
        sam_outside,
        make_step,
        Trainer,
        CompiledWhenMade,
        with_train_state,
        pairs,
        accumulated,
        perturbed_inside,
    ],
    "asam": [asam],
    "rsam": [rsam_with_key, rsam_in_state, rsam_in_bare_state, rsam_as_flax],
}
SETTINGS_TOGETHER = {"sam": sam_outside, "asam": asam, "rsam": rsam_with_key}
"""One for each algorithm that JAX compiles once, whatever the settings."""
