import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

jax.config.update("jax_enable_x64", True)


def step(weights, loss_and_grad, state, hyper):
    w, unravel = ravel_pytree([jnp.asarray(a) for a in weights])

    def grad(v):
        _, g = loss_and_grad([np.asarray(a) for a in unravel(v)])
        return ravel_pytree([jnp.asarray(a) for a in g])[0]

    t = jnp.abs(w) + hyper.eta
    g = grad(w)
    g = grad(w + hyper.rho * t**2 * g / (jnp.linalg.norm(t * g) + 1e-12))
    d = g + hyper.weight_decay * w
    v = d + hyper.momentum * state["v"] if "v" in state else d
    return [np.asarray(a) for a in unravel(w - hyper.lr * v)], {"v": v}
