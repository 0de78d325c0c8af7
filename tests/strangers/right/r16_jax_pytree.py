import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def dual_vector(tree):
    """The unit vector that points along the gradient, over the whole tree."""
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree_util.tree_leaves(tree)))
    return jax.tree.map(lambda leaf: leaf / (norm + 1e-12), tree)


@jax.jit
def ascend(params, grads, rho):
    return jax.tree.map(lambda p, d: p + rho * d, params, dual_vector(grads))


@jax.jit
def descend(params, grads, velocity, lr, momentum, decay):
    grads = jax.tree.map(lambda g, p: g + decay * p, grads, params)
    velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, grads)
    return jax.tree.map(lambda p, v: p - lr * v, params, velocity), velocity


def train_step(weights, loss_and_grad, state, hyper):
    params = {f"layer{i}": jnp.asarray(w) for i, w in enumerate(weights)}
    names = list(params)

    def gradient(tree):
        _, gs = loss_and_grad([np.asarray(tree[n]) for n in names])
        return {n: jnp.asarray(g) for n, g in zip(names, gs)}

    velocity = state.get("velocity") or jax.tree.map(jnp.zeros_like, params)
    noised = ascend(params, gradient(params), hyper.rho)
    params, velocity = descend(params, gradient(noised), velocity, hyper.lr, hyper.momentum, hyper.weight_decay)
    return [np.asarray(params[n]) for n in names], {"velocity": velocity}
