import jax
import jax.numpy as jnp
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)


def sam_ascent(rho, eps=1e-12):
    """An optax transformation: update -> rho * update / |update|."""

    def init(params):
        return optax.EmptyState()

    def update(updates, state, params=None):
        scale = rho / (optax.global_norm(updates) + eps)
        return jax.tree.map(lambda u: scale * u, updates), state

    return optax.GradientTransformation(init, update)


def train_step(weights, loss_and_grad, state, hyper):
    up = sam_ascent(hyper.rho)
    base = optax.chain(
        optax.add_decayed_weights(hyper.weight_decay),
        optax.trace(decay=hyper.momentum),
        optax.scale(-hyper.lr),
    )
    params = [jnp.asarray(w) for w in weights]
    opt_state = state["opt"] if state else base.init(params)

    def grads_at(p):
        return [jnp.asarray(g) for g in loss_and_grad([np.asarray(a) for a in p])[1]]

    eps, _ = up.update(grads_at(params), up.init(params))
    updates, opt_state = base.update(grads_at(optax.apply_updates(params, eps)), opt_state, params)
    new = optax.apply_updates(params, updates)
    return [np.array(p) for p in new], {"opt": opt_state}
