"""SAM in Keras 3 on its JAX backend, where a training step is a function of its state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import keras


class Sam(keras.Model):
    def __init__(self, *args, rho=0.05, **kwargs):
        super().__init__(*args, **kwargs)
        self.rho = rho

    def loss_of(self, weights, others, x, y):
        outputs, others = self.stateless_call(weights, others, x, training=True)
        return self.compute_loss(x, y, outputs), others

    def start(self, weights, up):
        return weights

    def train_step(self, state, data):
        weights, others, optimizer_variables, metrics = state
        x, y = data
        both = jax.value_and_grad(self.loss_of, has_aux=True)
        (loss, others), grads = both(weights, others, x, y)
        scale = self.rho / (jnp.sqrt(sum(jnp.sum(g * g) for g in grads)) + 1e-12)
        up = [w + scale * g for w, g in zip(weights, grads)]
        _, grads = both(up, others, x, y)
        weights, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, grads, self.start(weights, up)
        )
        return {"loss": loss}, (weights, others, optimizer_variables, metrics)


class NotRestored(Sam):
    def start(self, weights, up):
        return up
