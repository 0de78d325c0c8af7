import functools

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def normal_like_tree(rng, target, std):
    leaves, treedef = jax.tree_util.tree_flatten(target)
    rngs = jax.random.split(rng, len(leaves))
    out = []
    for r, w in zip(rngs, leaves):
        n = jnp.linalg.norm(w.reshape(w.shape[0], -1), axis=1) if w.ndim > 1 else jnp.linalg.norm(w)
        n = n.reshape((-1,) + (1,) * (w.ndim - 1)) if w.ndim > 1 else n
        out.append(std * n * jax.random.normal(r, w.shape, dtype=w.dtype))
    return treedef.unflatten(out)


def dual_vector(y):
    norm = jnp.sqrt(functools.reduce(jnp.add, [jnp.vdot(v, v) for v in jax.tree_util.tree_leaves(y)]))
    return jax.tree_util.tree_map(lambda v: v / (norm + 1e-12), y)


def update(weights, loss_and_grad, state, hyper):
    tm = jax.tree_util.tree_map
    w = {str(i): jnp.asarray(v) for i, v in enumerate(weights)}
    rng = state.get("rng", jax.random.PRNGKey(42))
    rng, r1, r2 = jax.random.split(rng, 3)

    def grad(p):
        _, g = loss_and_grad([np.array(p[str(i)]) for i in range(len(weights))])
        return {str(i): jnp.asarray(v) for i, v in enumerate(g)}

    g = grad(tm(jnp.add, w, normal_like_tree(r1, w, hyper.sigma)))
    a = tm(lambda u, n: hyper.lam * u + n, g, normal_like_tree(r2, w, hyper.sigma))
    g = grad(tm(lambda p, e: p + hyper.rho * e, w, dual_vector(a)))

    v = state.get("v") or tm(jnp.zeros_like, w)
    v = tm(lambda m, u, p: hyper.momentum * m + u + hyper.weight_decay * p, v, g, w)
    w = tm(lambda p, m: p - hyper.lr * m, w, v)
    return [np.array(w[str(i)]) for i in range(len(weights))], {"rng": rng, "v": v}
