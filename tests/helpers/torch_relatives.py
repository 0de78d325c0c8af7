"""SAM's relatives in PyTorch: a second reading of the papers and of their authors' code.

One function for every name in ``RELATIVES``, written from the sources and not from the package's
rules. As in torch_reference.py a quantity is a list of tensors, one for each parameter, and nothing
follows the package's structure; where both agree, two independent readings agree.

A function is called as ``f(probe, given, **settings)`` and tells the step by a `Step`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from tests.helpers.torch_reference import (
    Probe,
    Step,
    Tensors,
    base,
    length,
    noise_only,
    of_length,
    plus,
    sam,
)


@dataclass
class Given:
    """What a step has besides the mini-batch and the settings."""

    t: int
    """The step, from 0."""
    memory: dict[str, Any]
    """Empty before the first step; a function keeps here what it needs in the next."""
    velocity: Tensors
    """torch SGD's momentum buffers; zeros before the first step."""
    z: Tensors = field(default_factory=list)
    """Standard normal draws."""
    noise: Tensors = field(default_factory=list)
    """R-SAM's draw, sigma s z."""
    mask: Tensors = field(default_factory=list)
    """1 with probability beta, else 0."""
    coin: float = 0.0
    """Uniform in [0, 1)."""
    parts: int = 1
    """In how many parts the mini-batch is taken."""


@dataclass
class ApartStep(Step):
    """Beside the base's step, the weights move by -lr apart."""

    apart: Tensors | None = None


def times(c, a):
    return [c * x for x in a]


def minus(a, b):
    return [x - y for x, y in zip(a, b)]


def elementwise(function, *lists):
    return [function(*tensors) for tensors in zip(*lists)]


def dot(a, b):
    return sum((x * y).sum() for x, y in zip(a, b))


def unit(a):
    """The direction of a; nothing of nothing. The 1e-12 does not shorten it visibly."""
    return [x / torch.sqrt(dot(a, a) + 1e-24) for x in a]


def without(a, b):
    """What of a is orthogonal to b."""
    return minus(a, times(dot(a, unit(b)), unit(b)))


def at_the_top(probe, loss, g0, eps):
    """The step whose gradient is that at w + eps."""
    adversarial_loss, g = probe(eps)
    return Step(loss, g, None, g0, eps, adversarial_loss)


# The length of the ascent


def usam(probe, given, rho):
    """The ascent is a step along the gradient, as long as it comes."""
    loss, g0 = probe()
    return at_the_top(probe, loss, g0, times(rho, g0))


def unified_sam(probe, given, rho, share):
    """Between the two: share = 0 is USAM's ascent, share = 1 is SAM's."""
    loss, g0 = probe()
    factor = rho * (1 - share + share / (length(g0) + 1e-12))
    return at_the_top(probe, loss, g0, times(factor, g0))


def le_sam(probe, given, rho, sigma):
    """To first order the loss rises by sigma, unless that is further away than rho."""
    loss, g0 = probe()
    radius = min(sigma / (length(g0) + 1e-12), rho)
    return at_the_top(probe, loss, g0, of_length(radius, g0))


def fisher_sam(probe, given, rho, eta):
    """The sphere is one of the metric F = 1 + eta g0^2."""
    loss, g0 = probe()
    inverse = [1 / (1 + eta * g**2) for g in g0]
    measured = torch.sqrt(sum((g**2 * f).sum() for g, f in zip(g0, inverse)))
    eps = [rho * f * g / (measured + 1e-12) for g, f in zip(g0, inverse)]
    return at_the_top(probe, loss, g0, eps)


# Whose ascent it is


def m_sam(probe, given, rho):
    """Each of some equal parts of the mini-batch has an ascent of its own.

    A part's loss is its share of the mean. The perturbation that is told is the mean over parts.
    """
    share = 1 / given.parts
    steps = []
    for x, y in zip(probe.x.chunk(given.parts), probe.y.chunk(given.parts)):
        look = Probe(probe.model, x, y)
        loss, g0 = look()
        eps = of_length(rho, times(share, g0))
        above, g = look(eps)
        steps.append((share * loss, times(share, g), times(share, g0), times(share, eps), above))
    losses, gradients, ascents, perturbations, adversarial = zip(*steps)

    def added(lists):
        return [sum(tensors) for tensors in zip(*lists)]

    return Step(
        sum(losses),
        added(gradients),
        None,
        added(ascents),
        added(perturbations),
        share * sum(adversarial),
    )


def esam(probe, given, rho, beta):
    """The whole gradient's unit vector, some of its weights only, stretched by 1 / beta."""
    loss, g0 = probe()
    eps = elementwise(lambda m, g: m * g / beta, given.mask, of_length(rho, g0))
    return at_the_top(probe, loss, g0, eps)


def sparse_sam(probe, given, rho, sparsity, period, count):
    """Only where the gradients of single samples are largest; the rest of SAM's eps is dropped."""
    if given.t % period == 0:
        fisher = [torch.zeros_like(p) for p in probe.parameters]
        for x, y in list(zip(probe.x, probe.y))[:count]:
            alone = Probe(probe.model, x[None], y[None])
            alone.looks = 1  # batch norm's running statistics do not move
            _, gradient = alone()
            fisher = [f + g**2 for f, g in zip(fisher, gradient)]
        everything = torch.cat([f.flatten() for f in fisher])
        kept = int(everything.numel() * (1 - sparsity))
        mask = torch.ones_like(everything)
        mask[everything.argsort(stable=True)[: len(mask) - kept]] = 0  # of equals the later stay
        parts = mask.split([f.numel() for f in fisher])
        given.memory["mask"] = [part.view_as(f) for part, f in zip(parts, fisher)]
    loss, g0 = probe()
    eps = elementwise(torch.mul, of_length(rho, g0), given.memory["mask"])
    return at_the_top(probe, loss, g0, eps)


# Which direction the ascent takes


def friendly_sam(probe, given, rho, sigma, lam):
    """Away from the mean of earlier gradients; the authors' code subtracts it before the update."""
    loss, g0 = probe()
    if "mean" in given.memory:
        old = given.memory["mean"]
        direction = minus(g0, times(sigma, old))
        given.memory["mean"] = plus(times(lam, old), times(1 - lam, g0))
    else:
        direction = given.memory["mean"] = g0
    return at_the_top(probe, loss, g0, of_length(rho, direction))


def vasso(probe, given, rho, theta):
    """Along the mean of the gradients, this step's among them."""
    loss, g0 = probe()
    if "mean" in given.memory:
        given.memory["mean"] = plus(times(1 - theta, given.memory["mean"]), times(theta, g0))
    else:
        given.memory["mean"] = g0
    return at_the_top(probe, loss, g0, of_length(rho, given.memory["mean"]))


def momentum_sam(probe, given, rho):
    """Where the velocity will carry the weights, rho far; w <- w - lr v, hence the sign."""
    eps = times(-1.0, of_length(rho, given.velocity))
    loss, g = probe(eps)
    return Step(loss, g, None, None, eps)


# What the base optimizer is given


def gsam(probe, given, rho, alpha):
    """The clean gradient is projected on the perturbed one."""
    step = sam(probe, rho)
    across = without(step.ascent_gradient, step.gradient)
    step.gradient = minus(step.gradient, times(alpha, across))
    return step


def wsam(probe, given, rho, gamma):
    """Decoupled: the base has the clean gradient, the sharpness goes past it."""
    step = sam(probe, rho)
    weight = gamma / (1 - gamma)
    sharpness = minus(step.gradient, step.ascent_gradient)
    return ApartStep(
        step.loss,
        step.ascent_gradient,
        None,
        step.ascent_gradient,
        step.perturbation,
        step.adversarial_loss,
        apart=times(weight, sharpness),
    )


def wsam_coupled(probe, given, rho, gamma):
    step = sam(probe, rho)
    weight = gamma / (1 - gamma)
    step.gradient = plus(times(weight, step.gradient), times(1 - weight, step.ascent_gradient))
    return step


def cr_sam(probe, given, rho, gamma, beta):
    """As the authors' code: no denominators."""
    loss, g0 = probe()
    eps = of_length(rho, g0)
    adversarial_loss, ahead = probe(eps)
    _, behind = probe(times(-1.0, eps))
    u = elementwise(lambda a, b, g: a + gamma * (a + b - 2 * g) + beta * (a - b), ahead, behind, g0)
    return Step(loss, u, None, g0, eps, adversarial_loss)


# Which steps are SAM's


def looksam(probe, given, rho, k, alpha):
    """Every k-th step is SAM's; the others reuse what was orthogonal to the clean gradient."""
    if given.t % k == 0:
        step = sam(probe, rho)
        given.memory["v"] = without(step.gradient, step.ascent_gradient)
        return step
    loss, g0 = probe()
    u = plus(g0, times(alpha * length(g0), unit(given.memory["v"])))
    return Step(loss, u, None, g0)


def looksam_by_tensor(probe, given, rho, k, alpha):
    """As packages do it: every tensor has a projection and a ratio of its own."""
    if given.t % k == 0:
        step = sam(probe, rho)
        pairs = zip(step.gradient, step.ascent_gradient)
        given.memory["v"] = [without([g], [clean])[0] for g, clean in pairs]
        return step
    loss, g0 = probe()
    pieces = [alpha * length([g]) * unit([v])[0] for g, v in zip(g0, given.memory["v"])]
    return Step(loss, plus(g0, pieces), None, g0)


def rst(probe, given, rho, p):
    return sam(probe, rho) if given.coin < p else base(probe)


# Without an ascent, or with a learnt one


def rwp(probe, given, sigma):
    return noise_only(probe, given.noise)


def m_rwp(probe, given, sigma, lam):
    """Two gradients on the same mini-batch; the clean pass is the one that batch norm learns from.

    So it is the first, and the draw is where the second gradient is taken.
    """
    loss, clean = probe()
    noisy_loss, noisy = probe(given.noise)
    mixed = plus(times(lam, noisy), times(1 - lam, clean))
    return Step(loss, mixed, None, clean, given.noise, noisy_loss)


def arwp(probe, given, sigma, eta, beta):
    """The draw is smaller where gradients have been large, for a filter as a whole."""
    noise = given.noise
    if "h" in given.memory:
        shrunk = []
        for d, h in zip(noise, given.memory["h"]):
            f = h if h.ndim == 1 else h.sum(dim=tuple(range(1, h.ndim)), keepdim=True)
            shrunk.append(d / torch.sqrt(1 + eta * f))
        noise = shrunk
    loss, g = probe(noise)
    squares = [x**2 for x in g]
    if "h" in given.memory:
        squares = plus(times(beta, given.memory["h"]), squares)
    given.memory["h"] = squares
    return Step(loss, g, noise)


def bayesian_sam(probe, given, rho, n, delta, gamma, beta1, beta2):
    """As the authors' code: w moves by the old s. One part, whatever the mini-batch."""
    w = [p.detach().clone() for p in probe.parameters]
    s = given.memory.get("s", [torch.ones_like(p) for p in w])
    momentum = given.memory.get("momentum", [torch.zeros_like(p) for p in w])
    noise = [z / torch.sqrt(n * x) for z, x in zip(given.z, s)]
    loss, g0 = probe(noise)
    eps = [rho * g / x for g, x in zip(g0, s)]
    adversarial_loss, g = probe(eps)
    decayed = plus(g, times(delta, w))
    momentum = plus(times(beta1, momentum), times(1 - beta1, decayed))
    u = [m / x for m, x in zip(momentum, s)]
    fresh = [torch.sqrt(x) * a.abs() + gamma + delta for x, a in zip(s, g0)]
    given.memory["momentum"] = momentum
    given.memory["s"] = plus(times(beta2, s), times(1 - beta2, fresh))
    return Step(loss, u, noise, g0, eps, adversarial_loss)


STATEMENTS = {
    "usam": usam,
    "unified-sam": unified_sam,
    "m-sam": m_sam,
    "gsam": gsam,
    "wsam": wsam,
    "wsam-coupled": wsam_coupled,
    "looksam": looksam,
    "looksam-by-tensor": looksam_by_tensor,
    "rst": rst,
    "esam": esam,
    "sparse-sam": sparse_sam,
    "fisher-sam": fisher_sam,
    "friendly-sam": friendly_sam,
    "vasso": vasso,
    "momentum-sam": momentum_sam,
    "cr-sam": cr_sam,
    "le-sam": le_sam,
    "rwp": rwp,
    "m-rwp": m_rwp,
    "arwp": arwp,
    "bayesian-sam": bayesian_sam,
}
