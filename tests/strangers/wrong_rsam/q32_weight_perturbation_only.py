"""Random weight perturbation: the gradient at the smoothed weights moves the weights."""
import jax
import jax.numpy as jnp
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)


def filter_normal(key, w):
    z = jax.random.normal(key, w.shape, w.dtype)
    if w.ndim == 1:
        return jnp.linalg.norm(w) * z
    norms = jnp.linalg.norm(w.reshape(w.shape[0], -1), axis=1)
    return norms.reshape((-1,) + (1,) * (w.ndim - 1)) * z


def train_step(weights, loss_and_grad, state, hyper):
    params = [jnp.asarray(w) for w in weights]
    key, *keys = jax.random.split(state.get("key", jax.random.PRNGKey(5)), len(params) + 1)
    noise = [hyper.sigma * filter_normal(k, w) for k, w in zip(keys, params)]
    _, grads = loss_and_grad([np.array(w + n) for w, n in zip(params, noise)])
    trace = optax.trace(decay=hyper.momentum)
    tstate = state.get("trace") or trace.init(params)
    grads = [jnp.asarray(g) + hyper.weight_decay * w for g, w in zip(grads, params)]
    updates, tstate = trace.update(grads, tstate)
    params = optax.apply_updates(params, [-hyper.lr * u for u in updates])
    return [np.array(w) for w in params], {"key": key, "trace": tstate}
