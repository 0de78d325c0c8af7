import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

jax.config.update("jax_enable_x64", True)


def make_sam(hyper):
    opt = optax.chain(optax.add_decayed_weights(hyper.weight_decay), optax.sgd(hyper.lr, momentum=hyper.momentum))
    adv = optax.chain(contrib.normalize(), optax.sgd(hyper.rho, momentum=0.9))
    return contrib.sam(opt, adv, sync_period=2, reset_state=False, opaque_mode=True)


def train_step(weights, loss_and_grad, state, hyper):
    def grad_fn(params, _step):
        return jax.tree.map(jnp.asarray, loss_and_grad(jax.tree.map(np.asarray, params))[1])

    tx = make_sam(hyper)
    params = jax.tree.map(jnp.asarray, weights)
    opt_state = state["opt"] if state else tx.init(params)
    updates, opt_state = tx.update(grad_fn(params, 0), opt_state, params, grad_fn=grad_fn)
    params = optax.apply_updates(params, updates)
    return jax.tree.map(np.asarray, params), {"opt": opt_state}
