"""R-SAM in JAX: every leaf is smoothed."""
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def smooth(rng, tree, std):
    def leaf(w):
        n = jnp.sqrt((w**2).sum(axis=tuple(range(1, w.ndim)) or None, keepdims=w.ndim > 1))
        return std * n * jax.random.normal(rng, w.shape, w.dtype)

    return jax.tree.map(leaf, tree)


def axpy(a, x, y):
    return jax.tree.map(lambda u, v: a * u + v, x, y)


def train_step(weights, loss_and_grad, state, hyper):
    w = tuple(map(jnp.asarray, weights))
    rng, sub = jax.random.split(state.get("rng", jax.random.PRNGKey(0)))

    def grad(t):
        return tuple(jnp.asarray(g) for g in loss_and_grad([np.array(u) for u in t])[1])

    noise = smooth(sub, w, hyper.sigma)
    a = axpy(hyper.lam, grad(axpy(1.0, w, noise)), noise)
    norm = jnp.sqrt(sum(jnp.vdot(u, u) for u in a)) + 1e-12
    g = axpy(hyper.weight_decay, w, grad(axpy(hyper.rho / norm, a, w)))
    v = axpy(hyper.momentum, state["v"], g) if "v" in state else g
    w = axpy(-hyper.lr, v, w)
    return [np.array(u) for u in w], {"rng": rng, "v": v}
