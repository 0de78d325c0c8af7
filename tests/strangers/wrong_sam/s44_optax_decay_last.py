"""SAM as an optax chain of its own."""
import jax
import jax.numpy as jnp
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)


def base(hyper):
    return optax.chain(
        optax.trace(decay=hyper.momentum),
        optax.scale(-hyper.lr),
        optax.add_decayed_weights(hyper.weight_decay),
    )


def perturbation(grads, rho):
    return jax.tree.map(lambda g: rho * g / (optax.global_norm(grads) + 1e-12), grads)


def step(weights, loss_and_grad, state, hyper):
    def grad(params):
        return [jnp.asarray(g) for g in loss_and_grad([np.asarray(p) for p in params])[1]]

    tx = base(hyper)
    params = [jnp.asarray(w) for w in weights]
    opt_state = state or tx.init(params)
    eps = perturbation(grad(params), hyper.rho)
    grads = grad(optax.apply_updates(params, eps))
    updates, opt_state = tx.update(grads, opt_state, params)
    return [np.asarray(p) for p in optax.apply_updates(params, updates)], opt_state
