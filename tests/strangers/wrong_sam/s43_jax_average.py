import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def train_step(weights, loss_and_grad, state, hyper):
    params = {f"layer{i}": jnp.asarray(w) for i, w in enumerate(weights)}

    def grad_fn(tree):
        loss, grads = loss_and_grad([np.asarray(tree[f"layer{i}"]) for i in range(len(weights))])
        return loss, {f"layer{i}": jnp.asarray(g) for i, g in enumerate(grads)}

    _, clean = grad_fn(params)
    noised = jax.tree.map(lambda p, g: p + hyper.rho * g, params, clean)
    _, robust = grad_fn(noised)
    grads = jax.tree.map(lambda a, b: 0.5 * (a + b), clean, robust)
    grads = jax.tree.map(lambda g, p: g + hyper.weight_decay * p, grads, params)
    trace = state.get("trace") or jax.tree.map(jnp.zeros_like, params)
    trace = jax.tree.map(lambda m, g: hyper.momentum * m + g, trace, grads)
    params = jax.tree.map(lambda p, m: p - hyper.lr * m, params, trace)
    return [np.asarray(params[f"layer{i}"]) for i in range(len(weights))], {"trace": trace}
