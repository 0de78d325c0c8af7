"""SAM, R-SAM and their relatives in PyTorch: a second reading of the papers' equations.

Nothing here follows the package's structure. Every quantity is a list of tensors, one for each
parameter; the parameters are moved in place and put back from saved copies; gradients come from
autograd, base steps from ``torch.optim``, clipping from ``clip_grad_norm_``. Where both agree, two
independent readings agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.linalg import vector_norm

Tensors = list[torch.Tensor]


@dataclass
class Step:
    """What a step has found out, before the base optimizer moves."""

    loss: torch.Tensor
    gradient: Tensors
    noise: Tensors | None = None
    ascent_gradient: Tensors | None = None
    perturbation: Tensors | None = None
    adversarial_loss: torch.Tensor | None = None


class Probe:
    """Loss and gradients of a model on one mini-batch, at its parameters plus some offsets.

    Only the first look moves batch norm's running statistics.
    """

    def __init__(self, model, x, y):
        self.model, self.x, self.y = model, torch.as_tensor(x), torch.as_tensor(y)
        self.parameters = list(model.parameters())
        self.looks = 0

    def __call__(self, offsets=None):
        saved = [p.detach().clone() for p in self.parameters]
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [m.momentum for m in norms]
        with torch.no_grad():
            for p, offset in zip(self.parameters, offsets or []):
                p.add_(offset)
        for m in norms:
            m.momentum = m.momentum if self.looks == 0 else 0.0
        loss = nn.functional.cross_entropy(self.model(self.x), self.y)
        gradients = list(torch.autograd.grad(loss, self.parameters))
        for m, momentum in zip(norms, momenta):
            m.momentum = momentum
        with torch.no_grad():
            for p, before in zip(self.parameters, saved):
                p.copy_(before)
        self.looks += 1
        return loss.detach(), gradients


def length(tensors):
    """The l2 norm over all parameters together."""
    return vector_norm(torch.stack([vector_norm(t) for t in tensors]))


def of_length(radius, tensors):
    """A vector of this length along another; nothing along nothing."""
    return [radius * t / (length(tensors) + 1e-12) for t in tensors]


def plus(a, b):
    return [x + y for x, y in zip(a, b)]


def base(probe):
    return Step(*probe())


def sam(probe, rho, ascent_steps=1):
    loss, g0 = probe()
    eps = of_length(rho / ascent_steps, g0)
    for _ in range(1, ascent_steps):
        _, uphill = probe(eps)
        eps = plus(eps, of_length(rho / ascent_steps, uphill))
    adversarial_loss, g = probe(eps)
    return Step(loss, g, None, g0, eps, adversarial_loss)


def asam(probe, rho, eta):
    loss, g0 = probe()
    t = [p.detach().abs() + eta for p in probe.parameters]
    tg = [a * b for a, b in zip(t, g0)]
    eps = [a * b for a, b in zip(t, of_length(rho, tg))]
    adversarial_loss, g = probe(eps)
    return Step(loss, g, None, g0, eps, adversarial_loss)


def noise_only(probe, noise):
    loss, gradient = probe(noise)
    return Step(loss, gradient, noise)


def rsam(probe, noise, rho, lam):
    loss, g0 = probe(noise)
    eps = of_length(rho, plus([lam * g for g in g0], noise))
    adversarial_loss, g = probe(eps)
    return Step(loss, g, noise, g0, eps, adversarial_loss)


def gradient(probe, noise, rho):
    loss, g0 = probe(noise)
    eps = of_length(rho, g0)
    adversarial_loss, g = probe(eps)
    return Step(loss, g, noise, g0, eps, adversarial_loss)


def stacked(probe, noise, rho):
    """The perturbation is told as the whole way from w."""
    loss, g0 = probe(noise)
    eps = plus(noise, of_length(rho, g0))
    adversarial_loss, g = probe(eps)
    return Step(loss, g, noise, g0, eps, adversarial_loss)


def filter_noise(parameters, z, sigma):
    """sigma s z: s is the norm of a row of a matrix, of an output channel, of a whole bias."""
    noise = []
    for p, draw in zip(parameters, z):
        if p.ndim == 1:
            s = vector_norm(p.detach()) + 1e-16
        else:
            s = vector_norm(p.detach(), dim=tuple(range(1, p.ndim)), keepdim=True)
        noise.append(sigma * s * draw)
    return noise


def ball_noise(parameters, z, sigma):
    return [sigma * draw / length(z) for draw in z]


def descend(optimizer, parameters, gradients, lr, clip_norm=None):
    """The base step, at the parameters as they are."""
    for p, g in zip(parameters, gradients):
        p.grad = g.clone()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
