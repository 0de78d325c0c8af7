import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def filter_scale(p):
    if p.ndim < 2:
        return jnp.linalg.norm(p)
    return jnp.sqrt(jnp.sum(p**2, axis=tuple(range(1, p.ndim)), keepdims=True))


def random_like(key, tree, sigma):
    leaves, treedef = jax.tree_util.tree_flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [sigma * filter_scale(p) * jax.random.normal(k, p.shape, p.dtype) for k, p in zip(keys, leaves)]
    return jax.tree_util.tree_unflatten(treedef, drawn)


def global_norm(tree):
    return jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tree)))


def train_step(weights, loss_and_grad, state, hyper):
    params = tuple(map(jnp.asarray, weights))
    key = state.get("key", jax.random.PRNGKey(7))
    key, sub = jax.random.split(key)

    def grads_at(tree):
        return tuple(jnp.asarray(g) for g in loss_and_grad([np.asarray(x) for x in tree])[1])

    noise = random_like(sub, params, hyper.sigma)
    g0 = grads_at(jax.tree.map(jnp.add, params, noise))
    a = jax.tree.map(lambda g, d: hyper.lam * g + d, g0, noise)
    scale = hyper.rho / (global_norm(a) + 1e-12)
    g = grads_at(jax.tree.map(lambda p, v: p + scale * v, params, a))
    g = jax.tree.map(lambda u, p: u + hyper.weight_decay * p, g, params)
    m = state.get("m", jax.tree.map(jnp.zeros_like, params))
    m = jax.tree.map(lambda b, u: hyper.momentum * b + u, m, g)
    new = jax.tree.map(lambda p, b: p - hyper.lr * b, params, m)
    return [np.asarray(p) for p in new], {"key": key, "m": m}
