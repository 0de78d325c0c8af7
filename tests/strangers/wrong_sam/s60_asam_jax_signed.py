import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


@jax.jit
def asam_shift(params, grads, rho, eta, decay):
    grads = jax.tree.map(lambda g, p: g + decay * p, grads, params)
    t = jax.tree.map(lambda p: p + eta, params)
    tg = jax.tree.map(jnp.multiply, t, grads)
    norm = jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tg))) + 1e-12
    return jax.tree.map(lambda p, a, b: p + rho * a * b / norm, params, t, tg)


@jax.jit
def sgd(params, grads, trace, lr, momentum, decay):
    trace = jax.tree.map(lambda m, g, p: momentum * m + g + decay * p, trace, grads, params)
    return jax.tree.map(lambda p, m: p - lr * m, params, trace), trace


def train_step(weights, loss_and_grad, state, hyper):
    params = tuple(jnp.asarray(w) for w in weights)
    trace = state.get("trace", jax.tree.map(jnp.zeros_like, params))
    _, g = loss_and_grad(weights)
    shifted = asam_shift(params, tuple(map(jnp.asarray, g)), hyper.rho, hyper.eta, hyper.weight_decay)
    _, g = loss_and_grad([np.asarray(p) for p in shifted])
    params, trace = sgd(params, tuple(map(jnp.asarray, g)), trace, hyper.lr, hyper.momentum, hyper.weight_decay)
    return [np.asarray(p) for p in params], {"trace": trace}
