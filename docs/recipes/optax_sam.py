"""optax's SAM, held against the algorithm, in both of its modes.

    rsam-ref check docs/recipes/optax_sam.py:opaque --algorithm sam
    rsam-ref check docs/recipes/optax_sam.py:transparent --algorithm sam

The check's ``loss_and_grad`` stands for your own gradient function: it takes and gives lists of
NumPy arrays. An optax optimizer is made anew from each step's settings; its state goes on.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

jax.config.update("jax_enable_x64", True)


def sam(hyper, *, opaque_mode):
    base = optax.chain(
        optax.add_decayed_weights(hyper.weight_decay),
        optax.sgd(hyper.lr, momentum=hyper.momentum),
    )
    ascent = optax.chain(contrib.normalize(), optax.sgd(hyper.rho))
    return contrib.sam(base, ascent, sync_period=2, opaque_mode=opaque_mode)


def opaque(weights, loss_and_grad, state, hyper):
    """One call of update a step; optax asks for the second gradient itself."""

    def gradient(params, _):
        _, gradients = loss_and_grad([np.asarray(p) for p in params])
        return [jnp.asarray(g) for g in gradients]

    optimizer = sam(hyper, opaque_mode=True)
    params = [jnp.asarray(w) for w in weights]
    state = state or optimizer.init(params)
    updates, state = optimizer.update(gradient(params, 0), state, params, grad_fn=gradient)
    return [np.asarray(p) for p in optax.apply_updates(params, updates)], state


def transparent(weights, loss_and_grad, state, hyper):
    """Two calls of update a step: the first goes up, the second back and down."""
    optimizer = sam(hyper, opaque_mode=False)
    params = [jnp.asarray(w) for w in weights]
    state = state or optimizer.init(params)
    for _ in range(2):
        _, gradients = loss_and_grad([np.asarray(p) for p in params])
        updates, state = optimizer.update([jnp.asarray(g) for g in gradients], state, params)
        params = optax.apply_updates(params, updates)
    return [np.asarray(p) for p in params], state
