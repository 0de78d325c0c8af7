import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


@jax.jit
def make_noise(key, ws, sigma):
    noise = []
    for k, w in zip(jax.random.split(key, len(ws)), ws):
        if w.ndim > 1:
            scale = jnp.mean(jnp.abs(w), axis=tuple(range(1, w.ndim)), keepdims=True)
        else:
            scale = jnp.mean(jnp.abs(w))
        noise.append(sigma * scale * jax.random.normal(k, w.shape, w.dtype))
    return noise


@jax.jit
def ascent(ws, gs, noise, rho, lam):
    a = [lam * g + n for g, n in zip(gs, noise)]
    norm = jnp.array([jnp.linalg.norm(v) for v in a]).sum() + 1e-12
    return [w + rho * v / norm for w, v in zip(ws, a)]


@jax.jit
def sgd(ws, gs, ms, lr, mu, wd):
    ms = [mu * m + g + wd * w for m, g, w in zip(ms, gs, ws)]
    return [w - lr * m for w, m in zip(ws, ms)], ms


def train_step(weights, loss_and_grad, state, hyper):
    ws = [jnp.asarray(w) for w in weights]
    step = state.get("step", 0)
    ms = state.get("m", [jnp.zeros_like(w) for w in ws])
    key = jax.random.fold_in(jax.random.PRNGKey(1), step)
    noise = make_noise(key, ws, hyper.sigma)
    _, gs = loss_and_grad([np.array(w + n) for w, n in zip(ws, noise)])
    there = ascent(ws, [jnp.asarray(g) for g in gs], noise, hyper.rho, hyper.lam)
    _, gs = loss_and_grad([np.array(w) for w in there])
    ws, ms = sgd(ws, [jnp.asarray(g) for g in gs], ms, hyper.lr, hyper.momentum, hyper.weight_decay)
    return [np.array(w) for w in ws], {"step": step + 1, "m": ms}
