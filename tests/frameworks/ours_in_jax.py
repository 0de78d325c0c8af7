"""rsam_ref.jax in the forms that the checker takes: transformations, and training steps of JAX."""

from __future__ import annotations

from functools import partial

import jax
import optax

from rsam_ref.jax import filter_noise, flax_axis, rsam, rsam_gradient, sam, sam_gradient


def base(hyper):
    """SGD as the reference has it: the decay is added to g, and both go into the velocity."""
    return optax.chain(
        optax.add_decayed_weights(hyper.weight_decay),
        optax.sgd(hyper.lr, momentum=hyper.momentum),
    )


def make_sam(hyper):
    return sam(base(hyper), rho=hyper.rho)


def make_asam(hyper):
    return sam(base(hyper), rho=hyper.rho, adaptive=True, eta=hyper.eta)


def make_rsam(hyper):
    return rsam(base(hyper), rho=hyper.rho, sigma=hyper.sigma, lam=hyper.lam)


def make_one_key(hyper):
    return rsam(base(hyper), rho=hyper.rho, sigma=hyper.sigma, lam=hyper.lam, draw="one-key")


def make_compiled_sam(loss_fn, lr, momentum, rho):
    """`step` within jit, of a loss that the check traces."""
    tx = sam(optax.sgd(lr, momentum=momentum), rho=rho)

    @jax.jit
    def step(params, opt_state, batch):
        params, opt_state, trace = tx.step(jax.value_and_grad(loss_fn), params, opt_state, batch)
        return params, opt_state, trace.loss

    return tx.init, step


@partial(jax.jit, static_argnames=("loss_fn", "tx"))
def sam_function(params, opt_state, batch, loss_fn, tx, rho):
    trace = sam_gradient(jax.value_and_grad(loss_fn), params, batch, rho=rho)
    updates, opt_state = tx.update(trace.gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, trace.loss


@partial(jax.jit, static_argnames=("loss_fn", "tx"))
def rsam_function_as_flax(params, opt_state, batch, key, loss_fn, tx, rho, sigma, lam):
    noise = filter_noise(key, params, sigma, output_axis=flax_axis)
    loss_and_grad = jax.value_and_grad(loss_fn)
    trace = rsam_gradient(loss_and_grad, params, noise, batch, rho=rho, lam=lam)
    updates, opt_state = tx.update(trace.gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, trace.loss
