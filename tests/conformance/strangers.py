"""SAM and R-SAM in the forms of strangers, all right: names, arguments and settings of their own.

None of them is the form that docs/check.md shows. test_ways_in.py says how each is found.
"""

from __future__ import annotations

import copy
import types
from typing import ClassVar

import torch
from torch import nn
from torch.nn.utils import parametrize


def length(tensors):
    return torch.stack([t.norm() for t in tensors]).norm() + 1e-12


def with_gradients(params):
    return [p for p in params if p.grad is not None]


# Wrappers that are no Optimizer, and halves under other names


class PerturbAndStep:
    """The base is made inside, under a name that nobody else has; the radius is `strength`."""

    def __init__(self, model, strength, lr=0.1, momentum=0.0, weight_decay=0.0):
        self._engine = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay
        )
        self.model, self.strength = model, strength

    @torch.no_grad()
    def perturb(self):
        params = with_gradients(self.model.parameters())
        norm = length([p.grad for p in params])
        self.old = [(p, p.clone()) for p in params]
        for p in params:
            p.add_(p.grad * (self.strength / norm))
        self._engine.zero_grad()

    @torch.no_grad()
    def step(self):
        for p, old in self.old:
            p.copy_(old)
        self._engine.step()
        self._engine.zero_grad()


class PerturbAndRestore:
    """Its users call the base's step() themselves, after restore()."""

    def __init__(self, optimizer, model, rho=0.05):
        self.optimizer, self.model, self.rho = optimizer, model, rho

    @torch.no_grad()
    def perturb_weights(self):
        self.saved = {p: p.clone() for p in self.model.parameters()}
        params = with_gradients(self.saved)
        norm = length([p.grad for p in params])
        for p in params:
            p.add_(p.grad * (self.rho / norm))
        self.optimizer.zero_grad()

    @torch.no_grad()
    def restore(self):
        for p, old in self.saved.items():
            p.copy_(old)


class ThreeCalls:
    """R-SAM by add_noise, climb and finish, a backward pass between each two; settings s and k."""

    def __init__(self, optimizer, radius=0.05, s=1e-3, k=1.0):
        self.optimizer, self.radius, self.s, self.k = optimizer, radius, s, k
        self.params = [p for group in optimizer.param_groups for p in group["params"]]

    @torch.no_grad()
    def add_noise(self):
        self.old = [p.clone() for p in self.params]
        self.noise = []
        for p in self.params:
            axes = tuple(range(1, p.ndim))
            size = p.norm(2, dim=axes, keepdim=True) if axes else p.norm()
            self.noise.append(torch.randn_like(p) * size * self.s)
            p.add_(self.noise[-1])

    @torch.no_grad()
    def climb(self):
        zipped = zip(self.params, self.noise)
        along = [d + (0 if p.grad is None else self.k * p.grad) for p, d in zipped]
        norm = length(along)
        for p, old, a in zip(self.params, self.old, along):
            p.copy_(old + a * (self.radius / norm))

    @torch.no_grad()
    def finish(self):
        for p, old in zip(self.params, self.old):
            p.copy_(old)
        self.optimizer.step()


# Factories


def of_the_model(model, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
    return PerturbAndStep(model, rho, lr, momentum, weight_decay)


def of_the_model_and_hyper(net, hyper):
    return PerturbAndStep(
        net, hyper.radius, hyper.learning_rate, hyper["momentum"], hyper["weight_decay"]
    )


def of_the_model_alone(model):
    return PerturbAndStep(model, 0.05, 0.05, 0.9, 0.001)


# step(closure), and settings in many places


class ClosureSam:
    """No Optimizer; ``radius()`` says where its radius is."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0):
        self.params = list(params)
        self.sgd = torch.optim.SGD(self.params, lr, momentum, weight_decay=weight_decay)

    def step(self, closure):
        loss = closure()
        with torch.no_grad():
            params = with_gradients(self.params)
            norm = length([p.grad for p in params]) if params else 1.0
            old = [p.clone() for p in params]
            for p in params:
                p.add_(p.grad * (self.radius() / norm))
        closure()
        with torch.no_grad():
            for p, kept in zip(params, old):
                p.copy_(kept)
        self.sgd.step()
        return loss

    def state_dict(self):
        return self.sgd.state_dict()

    def load_state_dict(self, state):
        self.sgd.load_state_dict(state)


class InConfig(ClosureSam):
    def __init__(self, params, config):
        super().__init__(params, config["lr"], config.get("momentum", 0), config["weight_decay"])
        self.config = config

    def radius(self):
        return self.config["rho"]


class InProperty(ClosureSam):
    """rho is a property without a setter; the radius lies deeper, in a namespace."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr, momentum, weight_decay)
        self.settings = types.SimpleNamespace(rho=rho)

    @property
    def rho(self):
        return self.settings.rho

    def radius(self):
        return self.rho


class FixedRadius(ClosureSam):
    """Nobody can change its radius."""

    def radius(self):
        return 0.07


class Recorded(ClosureSam):
    """Its attribute rho is a record: the radius in use is renewed by a method."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr, momentum, weight_decay)
        self.rho = rho
        self.in_use = (rho,)

    def radius(self):
        return self.in_use[0]


class OfNames(ClosureSam):
    def __init__(self, named_parameters, lr=0.1, momentum=0.0, weight_decay=0.0, ball=0.05):
        self.names, params = zip(*named_parameters)
        super().__init__(params, lr, momentum, weight_decay)
        self.ball = ball

    def radius(self):
        return self.ball


class ForwardOnly(InProperty):
    """The closure returns the loss; the backward pass is its own."""

    def step(self, closure):
        def with_backward():
            self.sgd.zero_grad()
            loss = closure()
            loss.backward()
            return loss

        return super().step(with_backward)


class AsksForBackward(InProperty):
    def step(self, closure):
        return super().step(lambda: closure(backward=True))


class SingleOnly(InProperty):
    """Refuses float64."""

    def step(self, closure):
        if any(p.dtype != torch.float32 for p in self.params):
            raise TypeError("expected float32")
        return super().step(closure)


class WithoutLr(torch.optim.Optimizer):
    """Its own groups hold rho alone; lr is in those of what it is given."""

    def __init__(self, params, optim, rho=0.05):
        super().__init__(params, {"rho": rho})
        self.optim = optim

    def step(self, closure):
        loss = closure()
        with torch.no_grad():
            known = [(g["rho"], p) for g in self.param_groups for p in with_gradients(g["params"])]
            norm = length([p.grad for _, p in known]) if known else 1.0
            old = [p.clone() for _, p in known]
            for rho, p in known:
                p.add_(p.grad * (rho / norm))
        closure()
        with torch.no_grad():
            for (_, p), kept in zip(known, old):
                p.copy_(kept)
        self.optim.step()
        return loss

    def state_dict(self):
        return self.optim.state_dict()

    def load_state_dict(self, state):
        self.optim.load_state_dict(state)


# Training steps


def trained(model, optimizer, loss_fn, x, y, rho):
    """A right step of SAM, which leaves batch norm's statistics as the first pass made them."""
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    kept = copy.deepcopy(dict(model.named_buffers()))
    with torch.no_grad():
        params = with_gradients(model.parameters())
        norm = length([p.grad for p in params]) if params else 1.0
        old = [p.clone() for p in params]
        for p in params:
            p.add_(p.grad * (rho / norm))
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for p, before in zip(params, old):
            p.copy_(before)
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    optimizer.step()
    return loss.detach()


def apart(model, x, y, criterion, opt, *, epsilon_radius, device="cpu", amp=False):
    return trained(model, opt, criterion, x, y, epsilon_radius)


def reordered(optimizer, criterion, inputs, labels, net, rho=0.05):
    return trained(net, optimizer, criterion, inputs, labels, rho)


def configured(model, optimizer, criterion, batch, cfg):
    return trained(model, optimizer, criterion, *batch, cfg["rho"])


def fixed(model, optimizer, criterion, batch):
    return trained(model, optimizer, criterion, *batch, 0.08)


def nameless(a, b, c, d, e):
    return trained(c, a, b, *e, d.rho)


def annotated(m: nn.Module, o: torch.optim.Optimizer, batch, hyper, f):
    return trained(m, o, f, *batch, hyper.rho)


def over_a_loader(model, loader, optimizer, loss_fn, args):
    for x, y in loader:
        loss = trained(model, optimizer, loss_fn, x, y, args.rho)
    return loss


def starred(model, criterion, optimizer, *batch, rho=0.05):
    return trained(model, optimizer, criterion, *batch, rho)


def own_optimizer(net, data, target, rho=0.05):
    if not hasattr(net, "engine"):
        net.engine = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    return trained(net, net.engine, nn.functional.cross_entropy, data, target, rho)


# A step() of nothing, and one of more than a closure


class ByTurns:
    """Its step() climbs and comes back by turns."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        self.params, self.rho, self.old = list(params), rho, None
        self.sgd = torch.optim.SGD(self.params, lr, momentum, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self):
        params = with_gradients(self.params)
        if self.old is None:
            self.old = [p.clone() for p in self.params]
            norm = length([p.grad for p in params]) if params else 1.0
            for p in params:
                p.add_(p.grad * (self.rho / norm))
            return
        for p, old in zip(self.params, self.old):
            p.copy_(old)
        self.old = None
        self.sgd.step()

    def state_dict(self):
        return self.sgd.state_dict()

    def load_state_dict(self, state):
        self.sgd.load_state_dict(state)


class NeverBack(ByTurns):
    """It is no SAM: each step() is one of SGD."""

    def step(self):
        self.sgd.step()


class OfABatch(ByTurns):
    def step(self, x, y):
        pass


# Other weights in the model for a pass, without a change of its parameters


class Added(nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, weight):
        return weight + self.eps


class AddedNoise(Added):
    def forward(self, weight):
        return weight + self.eps * torch.randn(())


def in_another_way(put, take_back):
    """A right step of SAM, with ``put(module, name, eps)`` for each weight, and the way back."""

    def train_step(model, optimizer, loss_fn, batch, rho):
        x, y = batch
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        norm = length([p.grad for p in with_gradients(model.parameters())])
        places = [
            (module, name, p)
            for module in list(model.modules())
            for name, p in list(module._parameters.items())
            if p is not None
        ]
        eps = {p: rho / norm * p.grad for _, _, p in places}
        optimizer.zero_grad()
        buffers = copy.deepcopy(dict(model.named_buffers()))
        put_there = [put(module, name, eps[p]) for module, name, p in places]
        loss_fn(model(x), y).backward()
        for (module, name, p), put_in in zip(places, put_there):
            take_back(module, name, p, put_in)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        optimizer.step()
        return loss.detach()

    return train_step


def parametrized_by(kind):
    def put(module, name, eps):
        parametrize.register_parametrization(module, name, kind(eps))

    def take_back(module, name, p, put_in):
        parametrize.remove_parametrizations(module, name, leave_parametrized=False)

    return in_another_way(put, take_back)


def attribute(module, name, eps):
    p = module._parameters.pop(name)
    setattr(module, name, p + eps)


def parameter(module, name, p, put_in=None):
    delattr(module, name)
    module.register_parameter(name, p)


def hooked(module, name, eps):
    """The layer has other weights only while it runs."""
    p = module._parameters[name]
    before = module.register_forward_pre_hook(lambda *_: attribute(module, name, eps))
    after = module.register_forward_hook(lambda *_: parameter(module, name, p))
    return before, after


def unhooked(module, name, p, put_in):
    for hook in put_in:
        hook.remove()


parametrized = parametrized_by(Added)
drawn_anew = parametrized_by(AddedNoise)
as_attributes = in_another_way(attribute, parameter)
by_hooks = in_another_way(hooked, unhooked)


def taken_away(model, optimizer, loss_fn, batch, rho):
    for module in model.modules():
        module._parameters.clear()


# What is kept outside, by the ids of the parameters


def by_id(kept, model, loss_fn, batch, lr, rho, momentum):
    """A step of SAM with its momentum in ``kept``."""
    x, y = batch

    def gradients():
        loss = loss_fn(model(x), y)
        return loss, torch.autograd.grad(loss, params, allow_unused=True)

    params = list(model.parameters())
    loss, gs = gradients()
    buffers = copy.deepcopy(dict(model.named_buffers()))
    norm = length([g for g in gs if g is not None])
    with torch.no_grad():
        old = [p.clone() for p in params]
        for p, g in zip(params, gs):
            if g is not None:
                p.add_(g * (rho / norm))
    _, gs = gradients()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        for p, before, g in zip(params, old, gs):
            p.copy_(before)
            if g is not None:
                kept[id(p)] = momentum * kept[id(p)] + g if id(p) in kept else g
                p.sub_(lr * kept[id(p)])
    return loss.detach()


VELOCITIES = {}


def in_a_global(model, loss_fn, batch, lr, rho, momentum):
    return by_id(VELOCITIES, model, loss_fn, batch, lr, rho, momentum)


def in_a_default(model, loss_fn, batch, lr, rho, momentum, kept={}):  # noqa: B006
    return by_id(kept, model, loss_fn, batch, lr, rho, momentum)


def in_an_attribute(model, loss_fn, batch, lr, rho, momentum):
    return by_id(in_an_attribute.kept, model, loss_fn, batch, lr, rho, momentum)


in_an_attribute.kept = {}


class Memory:
    velocities: ClassVar = {}


def in_a_class(model, loss_fn, batch, lr, rho, momentum):
    return by_id(Memory.velocities, model, loss_fn, batch, lr, rho, momentum)


def closed_over():
    kept = {}

    def in_a_closure(model, loss_fn, batch, lr, rho, momentum):
        return by_id(kept, model, loss_fn, batch, lr, rho, momentum)

    return in_a_closure


in_a_closure = closed_over()


class InItsClass:
    """An optimizer whose class has the momentum of all."""

    velocities: ClassVar = {}

    def __init__(self, params, lr=0.1, rho=0.05, momentum=0.9):
        self.params, self.lr, self.rho, self.momentum = list(params), lr, rho, momentum

    def step(self, closure):
        loss = closure()
        with torch.no_grad():
            params = with_gradients(self.params)
            norm = length([p.grad for p in params]) if params else 1.0
            old = [p.clone() for p in params]
            for p in params:
                p.add_(p.grad * (self.rho / norm))
        closure()
        with torch.no_grad():
            for p, before in zip(params, old):
                p.copy_(before)
            for p in with_gradients(self.params):
                before = self.velocities.get(id(p), 0)
                self.velocities[id(p)] = self.momentum * before + p.grad
                p.sub_(self.lr * self.velocities[id(p)])
        return loss


class KeptSam(torch.optim.SGD):
    """Its radius is an attribute."""

    def __init__(self, params, rho, **own):
        super().__init__(params, **own)
        self.rho = rho

    @torch.no_grad()
    def climb(self):
        known = [p for group in self.param_groups for p in with_gradients(group["params"])]
        norm = length([p.grad for p in known]) if known else 1.0
        self.saved = [(p, p.clone()) for p in known]
        for p in known:
            p.add_(p.grad * (self.rho / norm))
        self.zero_grad()

    @torch.no_grad()
    def come_back(self):
        for p, old in self.saved:
            p.copy_(old)


def by_a_sam_of_its_own(sam, model, loss_fn, x, y):
    sam.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    kept = copy.deepcopy(dict(model.named_buffers()))
    sam.climb()
    loss_fn(model(x), y).backward()
    sam.come_back()
    for name, buffer in model.named_buffers():
        buffer.copy_(kept[name])
    sam.step()
    return loss.detach()


def keeps_it_on_the_model(model, loss_fn, batch, lr, rho, momentum, weight_decay):
    """Made in the first step, with that step's settings."""
    if not hasattr(model, "sam"):
        own = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        model.sam = KeptSam(model.parameters(), rho, **own)
    return by_a_sam_of_its_own(model.sam, model, loss_fn, *batch)


def in_halves(model, optimizer, loss_fn, batch):
    return by_a_sam_of_its_own(optimizer, model, loss_fn, *batch)


def in_halves_of_a_sam(model, sam, batch, criterion):
    return by_a_sam_of_its_own(sam, model, criterion, *batch)


def in_halves_twice_moved(model, optimizer: KeptSam, loss_fn, batch):
    """Both passes move batch norm's statistics."""
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.climb()
    loss_fn(model(x), y).backward()
    optimizer.come_back()
    optimizer.step()
    return loss.detach()


def by_closure(model, optimizer: Recorded, loss_fn, batch):
    """An SGD would take it, too, for one gradient; the radius stays as it was made."""
    x, y = batch
    kept = copy.deepcopy(dict(model.named_buffers()))
    losses = []

    def closure():
        optimizer.sgd.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        losses.append(loss.detach())
        if len(losses) > 1:
            for name, buffer in model.named_buffers():
                buffer.copy_(kept[name])
        kept.update(copy.deepcopy(dict(model.named_buffers())))
        return loss

    optimizer.step(closure)
    return losses[0]


class NeedsColours:
    def __init__(self, params, colours):
        raise ValueError("no colours")

    def colour_step(self):
        pass


def in_colours(model, optimizer, loss_fn, batch):
    optimizer.colour_step()


def in_no_known_way(model, optimizer, loss_fn, batch):
    optimizer.leap()


class Helper:
    """Around the optimizer that is given."""

    def __init__(self, optimizer, rho):
        self.optimizer, self.rho = optimizer, rho

    def train(self, model, loss_fn, x, y):
        return trained(model, self.optimizer, loss_fn, x, y, self.rho)


HELPERS = {}


def keeps_it_in_a_global(model, optimizer, loss_fn, batch, hyper):
    if model not in HELPERS:
        HELPERS[model] = Helper(optimizer, hyper.rho)
    return HELPERS[model].train(model, loss_fn, *batch)


def augmented(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    return trained(model, optimizer, loss_fn, x + 0.3 * torch.randn_like(x), y, hyper.rho)
