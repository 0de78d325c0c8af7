import jax
import jax.numpy as jnp
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)


def filter_scale(w):
    axes = tuple(range(1, w.ndim)) or None
    return jnp.sqrt(jnp.sum(w**2, axis=axes, keepdims=True))


def tree_noise(key, params, sigma):
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten(
        [sigma * filter_scale(w) * jax.random.normal(k, w.shape, w.dtype) for k, w in zip(keys, leaves)]
    )


def train_step(weights, loss_and_grad, state, hyper):
    params = jax.tree.map(jnp.asarray, list(weights))
    tx = optax.chain(optax.add_decayed_weights(hyper.weight_decay), optax.trace(decay=hyper.momentum))
    opt_state = state["opt"] if state else tx.init(params)
    key, sub = jax.random.split(state["key"] if state else jax.random.PRNGKey(0))

    def grad_fn(p):
        return jax.tree.map(jnp.asarray, list(loss_and_grad([np.array(v) for v in p])[1]))

    noise = tree_noise(sub, params, hyper.sigma)
    g = grad_fn(jax.tree.map(jnp.add, params, noise))
    norm = optax.global_norm(jax.tree.map(lambda a, n: hyper.lam * a + n, g, noise))
    eps = jax.tree.map(lambda a: hyper.rho * hyper.lam * a / (norm + 1e-12), g)
    g = grad_fn(jax.tree.map(jnp.add, params, eps))
    updates, opt_state = tx.update(g, opt_state, params)
    params = jax.tree.map(lambda p, u: p - hyper.lr * u, params, updates)
    return [np.array(p) for p in params], {"opt": opt_state, "key": key}
