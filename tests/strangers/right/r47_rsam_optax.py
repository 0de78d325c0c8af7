from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)


class RSAMState(NamedTuple):
    key: jax.Array
    inner: optax.OptState


def rsam(base, rho, sigma, lam, seed=0):
    """An optax transformation (opaque mode): update needs grad_fn(params)."""

    def init(params):
        return RSAMState(jax.random.key(seed), base.init(params))

    def noise_like(key, p):
        s = optax.safe_norm(p, 0.0) if p.ndim < 2 else jnp.linalg.norm(p.reshape(p.shape[0], -1), axis=1)
        s = s if p.ndim < 2 else jnp.expand_dims(s, tuple(range(1, p.ndim)))
        return sigma * s * jax.random.normal(key, p.shape, p.dtype)

    def update(updates, state, params, *, grad_fn):
        del updates
        key, sub = jax.random.split(state.key)
        leaves, tree = jax.tree.flatten(params)
        keys = jax.tree.unflatten(tree, list(jax.random.split(sub, len(leaves))))
        noise = jax.tree.map(noise_like, keys, params)
        first = grad_fn(optax.apply_updates(params, noise))
        a = jax.tree.map(lambda g, d: lam * g + d, first, noise)
        scale = rho / (optax.global_norm(a) + 1e-12)
        second = grad_fn(jax.tree.map(lambda p, v: p + scale * v, params, a))
        updates, inner = base.update(second, state.inner, params)
        return updates, RSAMState(key, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def train_step(weights, loss_and_grad, state, hyper):
    base = optax.chain(optax.add_decayed_weights(hyper.weight_decay), optax.sgd(hyper.lr, hyper.momentum))
    tx = rsam(base, hyper.rho, hyper.sigma, hyper.lam)
    params = [jnp.asarray(w) for w in weights]
    opt_state = state.get("opt_state")
    if opt_state is None:
        opt_state = tx.init(params)

    def grad_fn(ps):
        return [jnp.asarray(g) for g in loss_and_grad([np.asarray(p) for p in ps])[1]]

    updates, opt_state = tx.update(None, opt_state, params, grad_fn=grad_fn)
    return [np.asarray(p) for p in optax.apply_updates(params, updates)], {"opt_state": opt_state}
