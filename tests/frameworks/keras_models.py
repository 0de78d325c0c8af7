"""SAM and R-SAM in Keras 3 on its PyTorch backend."""

from __future__ import annotations

from typing import Any

import keras
import torch


class Stages:
    """A training step of SAM for a Keras model with a radius ``rho``."""

    rho: float
    compute_loss: Any
    optimizer: Any
    trainable_variables: Any
    zero_grad: Any
    __call__: Any

    def gradients(self, x, y):
        self.zero_grad()
        loss = self.compute_loss(x, y, self(x, training=True))
        loss.backward()
        return loss.detach(), [v.value.grad.clone() for v in self.trainable_variables]

    def scales(self, gradients):
        norm = torch.sqrt(sum((g**2).sum() for g in gradients)) + 1e-12
        return [self.rho / norm] * len(gradients)

    def put_back(self, saved):
        for v, old in zip(self.trainable_variables, saved):
            v.assign(old)

    def fed(self, first, second):
        return second

    def train_step(self, data):
        x, y = data
        loss, first = self.gradients(x, y)
        saved = [v.value.detach().clone() for v in self.trainable_variables]
        with torch.no_grad():
            for v, g, scale in zip(self.trainable_variables, first, self.scales(first)):
                v.value.add_(scale * g)
        _, second = self.gradients(x, y)
        with torch.no_grad():
            self.put_back(saved)
            self.optimizer.apply(self.fed(first, second), self.trainable_variables)
        return {"loss": loss}


class Sam(Stages, keras.Model):
    """A functional model."""

    def __init__(self, *args, rho=0.05, **kwargs):
        super().__init__(*args, **kwargs)
        self.rho = rho


class Around(Stages, keras.Model):
    """The same around a model that it is given."""

    def __init__(self, model, rho=0.05):
        super().__init__()
        self.model, self.rho = model, rho

    def call(self, x):
        return self.model(x)


def make(inputs, outputs, hyper):
    """A function that makes one, compiled with a base optimizer of its choice."""
    model = Sam(inputs, outputs, rho=hyper.rho)
    model.compile(
        optimizer=keras.optimizers.Adam(hyper.lr / 100),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


class Rsam(Sam):
    """R-SAM: a filter is what shares an index of a kernel's last axis."""

    def __init__(self, *args, rho=0.05, sigma=0.01, lam=1.0, **kwargs):
        super().__init__(*args, rho=rho, **kwargs)
        self.sigma, self.lam = sigma, lam

    def norms(self, p):
        return torch.sqrt((p**2).sum(dim=tuple(range(p.ndim - 1)) or (0,), keepdim=True))

    def ascent(self, gradient, noise):
        return self.lam * gradient + noise

    def train_step(self, data):
        x, y = data
        variables = self.trainable_variables
        saved = [v.value.detach().clone() for v in variables]
        noise = [self.sigma * self.norms(p) * torch.randn_like(p) for p in saved]
        with torch.no_grad():
            for v, d in zip(variables, noise):
                v.value.add_(d)
        loss, first = self.gradients(x, y)
        up = [self.ascent(g, d) for g, d in zip(first, noise)]
        with torch.no_grad():
            for v, p, a, scale in zip(variables, saved, up, self.scales(up)):
                v.assign(p + scale * a)
        _, second = self.gradients(x, y)
        with torch.no_grad():
            self.put_back(saved)
            self.optimizer.apply(second, variables)
        return {"loss": loss}
