"""Right implementations in PyTorch: optimizers (classes, factories) and whole training steps."""

from __future__ import annotations

import contextlib
import copy
import functools

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters


class TwoStepSam(torch.optim.Optimizer):
    """first_step and second_step around a base optimizer, with which it shares groups and state.

    plants_torch.py breaks it one method at a time.
    """

    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.05, **kwargs):
        super().__init__(params, dict(rho=rho, **kwargs))
        self.saved = {}
        self.make_base(base_optimizer, kwargs)

    def make_base(self, base_optimizer, kwargs):
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.link()

    def link(self):
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def load_state_dict(self, state_dict):
        self.base_optimizer.load_state_dict(state_dict)
        self.link()

    def parameters(self):
        return [p for group in self.param_groups for p in group["params"]]

    def norm(self):
        return torch.stack([p.grad.norm() for p in self.parameters() if p.grad is not None]).norm()

    def save(self, p):
        self.saved[p] = p.detach().clone()

    def climb(self, p, group, norm):
        p.add_(p.grad * (group["rho"] / (norm + 1e-12)))

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        norm = self.norm()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.save(p)
                    self.climb(p, group, norm)
        if zero_grad:
            self.zero_grad()

    def restore(self):
        for p, old in self.saved.items():
            p.copy_(old)
        self.saved.clear()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        self.restore()
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()


class ClosureSam(torch.optim.Optimizer):
    """step(closure), with a base step of its own."""

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, rho=0.05):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "rho": rho}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        with_gradient = [
            (p, group) for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        norm = sum(p.grad.square().sum() for p, _ in with_gradient).sqrt()
        saved = [p.clone() for p, _ in with_gradient]
        for p, group in with_gradient:
            p.add_(p.grad / (norm + 1e-12), alpha=group["rho"])
        with torch.enable_grad():
            closure()
        for (p, _), old in zip(with_gradient, saved):
            p.copy_(old)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, group)
        return loss

    def move(self, p, group):
        g = p.grad + group["weight_decay"] * p
        state = self.state[p]
        if "velocity" in state:
            state["velocity"].mul_(group["momentum"]).add_(g)
        else:
            state["velocity"] = g.clone()
        p.sub_(state["velocity"], alpha=group["lr"])


class ForeachSam(torch.optim.SGD):
    """A kind of SGD, with torch._foreach: no loop over the parameters in Python."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("rho", rho)

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        lists = [
            ([p for p in group["params"] if p.grad is not None], group["rho"])
            for group in self.param_groups
        ]
        gradients = [p.grad for params, _ in lists for p in params]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        saved = []
        for params, rho in lists:
            saved.append([p.clone() for p in params])
            eps = torch._foreach_mul([p.grad for p in params], rho / (norm + 1e-12))
            torch._foreach_add_(params, eps)
        with torch.enable_grad():
            closure()
        for (params, _), old in zip(lists, saved):
            torch._foreach_copy_(params, old)
        super().step()
        return loss


class SamWithKeywords(ForeachSam):
    """What else it is given it calls ``base``, as if that were an optimizer."""

    def __init__(self, params, rho=0.05, **base):
        super().__init__(params, rho=rho, **base)


class FlatRsam(torch.optim.Optimizer):
    """R-SAM on one flat vector, by parameters_to_vector."""

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=1e-3, lam=2.0):
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, dict(rho=rho, sigma=sigma, lam=lam, **settings))
        self.base = torch.optim.SGD(self.param_groups, **settings)
        self.param_groups = self.base.param_groups

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, state_dict):
        self.base.load_state_dict(state_dict)
        self.param_groups = self.base.param_groups

    def per_weight(self, name):
        """A group's setting, once for each of its weights."""
        return torch.cat(
            [
                torch.full((p.numel(),), float(group[name]), dtype=p.dtype)
                for group in self.param_groups
                for p in group["params"]
            ]
        )

    @torch.no_grad()
    def step(self, closure):
        params = [p for group in self.param_groups for p in group["params"]]
        w = parameters_to_vector(params).clone()
        scale = torch.cat([self.scale(p) for p in params])
        noise = self.per_weight("sigma") * scale * torch.randn_like(w)
        loss, g0 = self.gradient_at(w + noise, params, closure)
        ascent = self.per_weight("lam") * g0 + noise
        eps = self.per_weight("rho") * ascent / (ascent.norm() + 1e-12)
        self.gradient_at(w + eps, params, closure)
        self.load(w, params)
        self.base.step()
        return loss

    @staticmethod
    def scale(p):
        rows = p.flatten(1) if p.ndim > 1 else p.reshape(1, -1)
        return rows.norm(dim=1, keepdim=True).expand_as(rows).reshape(-1)

    @staticmethod
    def load(vector, params):
        start = 0
        for p in params:
            p.copy_(vector[start : start + p.numel()].view_as(p))
            start += p.numel()

    def gradient_at(self, point, params, closure):
        self.load(point, params)
        with torch.enable_grad():
            loss = closure()
        zeros = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        return loss, torch.cat([g.reshape(-1) for g in zeros])


class RsamInside(torch.optim.Optimizer):
    """R-SAM around a base optimizer, parameter by parameter. plants_torch.py breaks it."""

    def __init__(
        self, params, base_optimizer=torch.optim.SGD, rho=0.05, sigma=1e-3, lam=2.0, **kwargs
    ):
        super().__init__(params, dict(rho=rho, sigma=sigma, lam=lam, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.link()

    def link(self):
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def load_state_dict(self, state_dict):
        self.base_optimizer.load_state_dict(state_dict)
        self.link()

    def scale(self, p):
        if p.ndim == 1:
            return p.norm() + 1e-16
        return p.pow(2).sum(dim=tuple(range(1, p.ndim)), keepdim=True).sqrt()

    def draw(self, p, group):
        return group["sigma"] * self.scale(p) * torch.randn_like(p)

    def direction(self, g, group, noise):
        return group["lam"] * g + noise

    def put(self, p, value):
        p.copy_(value)

    @torch.no_grad()
    def step(self, closure):
        pairs = [(p, group) for group in self.param_groups for p in group["params"]]
        saved = [p.clone() for p, _ in pairs]
        noises = [self.draw(p, group) for p, group in pairs]
        for (p, _), noise in zip(pairs, noises):
            p.add_(noise)
        with torch.enable_grad():
            loss = closure()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p, _ in pairs]
        ascents = [
            self.direction(g, group, noise)
            for g, (_, group), noise in zip(gradients, pairs, noises)
        ]
        norm = torch.stack([a.norm() for a in ascents]).norm()
        for (p, group), old, a in zip(pairs, saved, ascents):
            self.put(p, old)
            p.add_(a * (group["rho"] / (norm + 1e-12)))
        with torch.enable_grad():
            closure()
        for (p, _), old in zip(pairs, saved):
            self.put(p, old)
        self.base_optimizer.step()
        return loss


class TwoStepAsam(TwoStepSam):
    """ASAM with eta, in two steps."""

    eta = 0.01

    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.5, adaptive=True, **kwargs):
        super().__init__(params, base_optimizer, rho, **kwargs)

    def norm(self):
        scaled = [(p.abs() + self.eta) * p.grad for p in self.parameters() if p.grad is not None]
        return torch.cat([x.reshape(-1) for x in scaled]).norm()

    def climb(self, p, group, norm):
        p.add_((p.abs() + self.eta).square() * p.grad, alpha=group["rho"] / (float(norm) + 1e-12))


def hooked_sgd(params, hyper):
    """torch's own SGD: a hook before its step climbs, and gives it a closure that comes back."""
    optimizer = torch.optim.SGD(
        params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay
    )
    for group in optimizer.param_groups:
        group.setdefault("rho", hyper.rho)

    def climb_first(optimizer, args, kwargs):
        closure = kwargs.get("closure") or args[1 if args[0] is optimizer else 0]

        def at_the_top():
            with torch.enable_grad():
                loss = closure()
            with torch.no_grad():
                groups = [
                    (p, group["rho"])
                    for group in optimizer.param_groups
                    for p in group["params"]
                    if p.grad is not None
                ]
                norm = torch.cat([p.grad.flatten() for p, _ in groups]).norm() + 1e-12
                saved = [p.clone() for p, _ in groups]
                for p, rho in groups:
                    p += rho / norm * p.grad
            with torch.enable_grad():
                closure()
            with torch.no_grad():
                for (p, _), old in zip(groups, saved):
                    p.copy_(old)
            return loss

        return (optimizer,), {"closure": at_the_top}

    optimizer.register_step_pre_hook(climb_first)
    return optimizer


def rsam_factory(params, hyper):
    settings = {"lr": hyper.lr, "momentum": hyper.momentum, "weight_decay": hyper.weight_decay}
    return RsamInside(params, rho=hyper.rho, sigma=hyper.sigma, lam=hyper.lam, **settings)


# Whole training steps -----------------------------------------------------------------------------


@contextlib.contextmanager
def still_statistics(model):
    """Batch norm normalises by the batch, as in training, but its running statistics rest."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.kept_momentum, m.momentum = m.momentum, 0.0
    counts = [m.num_batches_tracked.clone() for m in norms]
    try:
        yield
    finally:
        for m, count in zip(norms, counts):
            m.momentum = m.kept_momentum
            del m.kept_momentum
            m.num_batches_tracked.copy_(count)


def sam_loop(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    params = [p for p in model.parameters() if p.grad is not None]
    with torch.no_grad():
        saved = [p.clone() for p in params]
        norm = torch.cat([p.grad.flatten() for p in params]).norm()
        for p in params:
            p.add_(p.grad, alpha=hyper.rho / (float(norm) + 1e-12))
    optimizer.zero_grad()
    with still_statistics(model):
        loss_fn(model(x), y).backward()
    with torch.no_grad():
        for p, old in zip(params, saved):
            p.copy_(old)
    optimizer.step()
    return loss.detach()


def sam_loop_vector(model, optimizer, loss_fn, batch, hyper):
    """On a flat vector, with torch.autograd.grad; the buffers are put back in the end."""
    x, y = batch
    params = list(model.parameters())
    w = parameters_to_vector(params).detach().clone()

    def gradient():
        loss = loss_fn(model(x), y)
        return loss, torch.autograd.grad(loss, params, allow_unused=True)

    loss, g0 = gradient()
    flat = parameters_to_vector(
        [torch.zeros_like(p) if x is None else x for p, x in zip(params, g0)]
    )
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    vector_to_parameters(w + hyper.rho * flat / (flat.norm() + 1e-12), params)
    _, g = gradient()
    vector_to_parameters(w, params)
    with torch.no_grad():
        for name, b in model.named_buffers():
            b.copy_(buffers[name])
    for p, x in zip(params, g):
        p.grad = x
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def rsam_loop(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    params = list(model.parameters())
    saved = [p.detach().clone() for p in params]
    noise = []
    with torch.no_grad():
        for p in params:
            flat = p.view(len(p), -1) if p.ndim > 1 else p.view(1, -1)
            draw = torch.randn_like(flat) * flat.norm(dim=1, keepdim=True) * hyper.sigma
            noise.append(draw.view_as(p))
            p.add_(noise[-1])
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    with torch.no_grad():
        ascent = [
            d.clone() if p.grad is None else hyper.lam * p.grad + d for p, d in zip(params, noise)
        ]
        norm = torch.linalg.vector_norm(torch.stack([a.norm() for a in ascent]))
        for p, old, a in zip(params, saved, ascent):
            p.copy_(old + hyper.rho * a / (norm + 1e-12))
    optimizer.zero_grad()
    with still_statistics(model):
        loss_fn(model(x), y).backward()
    with torch.no_grad():
        for p, old in zip(params, saved):
            p.copy_(old)
    optimizer.step()
    return loss.item()


def sam_loop_twin(model, optimizer, loss_fn, batch, hyper):
    """The perturbed weights are those of a copy, the same one in every step."""
    x, y = batch
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    if not hasattr(model, "twin"):
        model.twin = [copy.deepcopy(model)]  # in a list, so that it is no part of the model
    (twin,) = model.twin
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    with torch.no_grad():
        for q, p in zip(twin.parameters(), model.parameters()):
            q.copy_(p + hyper.rho * p.grad / (norm + 1e-12))
    twin.zero_grad()
    loss_fn(twin(x), y).backward()
    for q, p in zip(twin.parameters(), model.parameters()):
        p.grad = q.grad.clone()
    optimizer.step()


def sam_loop_functional(model, optimizer, loss_fn, batch, hyper):
    """The model stays as it is: it is run with the perturbed weights, and with copied buffers."""
    x, y = batch
    weights = dict(model.named_parameters())
    loss = loss_fn(model(x), y)
    first = torch.autograd.grad(loss, list(weights.values()))
    norm = torch.cat([g.flatten() for g in first]).norm() + 1e-12
    perturbed = {
        name: (p.detach() + hyper.rho / norm * g).requires_grad_()
        for (name, p), g in zip(weights.items(), first)
    }
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    output = torch.func.functional_call(model, (perturbed, buffers), (x,))
    second = torch.autograd.grad(loss_fn(output, y), list(perturbed.values()))
    for p, g in zip(weights.values(), second):
        p.grad = g
    optimizer.step()


def rsam_loop_transformed(model, optimizer, loss_fn, batch, hyper):
    """R-SAM with torch.func.grad_and_value, on a dict of weights; the settings by their names."""
    x, y = batch
    buffers = dict(model.named_buffers())
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights, buffers):
        return loss_fn(torch.func.functional_call(model, (weights, buffers), (x,)), y)

    gradient = torch.func.grad_and_value(loss)
    noise = {
        name: hyper["sigma"]
        * torch.randn_like(p)
        * p.flatten(min(1, p.ndim - 1)).norm(dim=-1).view(-1, *[1] * (p.ndim - 1))
        for name, p in weights.items()
    }
    first, value = gradient({name: p + noise[name] for name, p in weights.items()}, buffers)
    ascent = {name: hyper["lam"] * g + noise[name] for name, g in first.items()}
    norm = torch.cat([a.flatten() for a in ascent.values()]).norm() + 1e-12
    above = {name: p + hyper["rho"] / norm * ascent[name] for name, p in weights.items()}
    second, _ = gradient(above, {name: b.clone() for name, b in buffers.items()})
    for name, p in model.named_parameters():
        p.grad = second[name]
    optimizer.step()
    return value


def sam_loop_that_logs(model, optimizer, loss_fn, batch, hyper):
    """Before and after the step the loss is looked at, without a gradient being taken."""
    x, y = batch
    with still_statistics(model):
        before = loss_fn(model(x), y).item()
    sam_loop(model, optimizer, loss_fn, batch, hyper)
    with still_statistics(model):
        return before - loss_fn(model(x), y).item()


class SamOfModel(ForeachSam):
    """Made from the model: it cannot be given groups."""

    def __init__(self, model, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(model.parameters(), lr, momentum, weight_decay, rho)


class OwnNamesSam(ClosureSam):
    """Short names for the settings."""

    def __init__(self, params, lr=0.1, mu=0.9, wd=0.0, rho=0.05):
        super().__init__(params, lr, mu, wd, rho)


class PlainSam(ForeachSam):
    """Without momentum and weight decay."""

    def __init__(self, params, lr=0.1, rho=0.05):
        super().__init__(params, lr, rho=rho)


class OwnMomentumSam(ForeachSam):
    """With a momentum and a weight decay of its own choice."""

    def __init__(self, params, lr=0.1, rho=0.05):
        super().__init__(params, lr, momentum=0.9, weight_decay=0.01, rho=rho)


class HandsOnSam(ForeachSam):
    """Its constructor hands on what it is given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = 0


class RsamInHalves(RsamInside):
    """Halves of a step for those who drive it themselves, after a draw; and step(closure)."""

    @torch.no_grad()
    def perturb(self):
        self.pairs = [(p, group) for group in self.param_groups for p in group["params"]]
        self.saved = [p.clone() for p, _ in self.pairs]
        self.noises = [self.draw(p, group) for p, group in self.pairs]
        for (p, _), noise in zip(self.pairs, self.noises):
            p.add_(noise)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        ascents = [
            self.direction(torch.zeros_like(p) if p.grad is None else p.grad, group, noise)
            for (p, group), noise in zip(self.pairs, self.noises)
        ]
        norm = torch.stack([a.norm() for a in ascents]).norm()
        for (p, group), old, a in zip(self.pairs, self.saved, ascents):
            p.copy_(old + group["rho"] / (norm + 1e-12) * a)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for (p, _), old in zip(self.pairs, self.saved):
            p.copy_(old)
        self.base_optimizer.step()
        del self.pairs
        if zero_grad:
            self.zero_grad()

    def step(self, closure):
        self.perturb()
        loss = closure()
        self.first_step(zero_grad=True)
        closure()
        self.second_step()
        return loss


class SubtractingSam(TwoStepSam):
    def save(self, p):
        pass

    def climb(self, p, group, norm):
        self.saved[p] = p.grad * (group["rho"] / (norm + 1e-12))
        p.add_(self.saved[p])

    def restore(self):
        for p, eps in self.saved.items():
            p.sub_(eps)
        self.saved.clear()


class LowNormSam(TwoStepSam):
    def norm(self):
        norms = [p.grad.float().norm() for p in self.parameters() if p.grad is not None]
        return torch.stack(norms).norm()


class BackwardFirstSam(ClosureSam):
    """backward() comes before step(closure), which asks the closure once only."""

    @torch.no_grad()
    def step(self, closure):
        groups = [
            (p, group) for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        if groups:
            norm = torch.stack([p.grad.norm() for p, _ in groups]).norm()
        saved = [p.clone() for p, _ in groups]
        for p, group in groups:
            p.add_(p.grad * (group["rho"] / (norm + 1e-12)))
        with torch.enable_grad():
            loss = closure()
        for (p, _), old in zip(groups, saved):
            p.copy_(old)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, group)
        return loss


class GradientsOffSam(ClosureSam):
    """The closure is called where gradients are off: it raises, unless it turns them on."""

    @torch.no_grad()
    def step(self, closure):
        loss = closure()
        groups = [
            (p, group) for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        norm = torch.stack([p.grad.norm() for p, _ in groups]).norm() if groups else 0.0
        saved = [p.clone() for p, _ in groups]
        for p, group in groups:
            p.add_(p.grad * (group["rho"] / (norm + 1e-12)))
        closure()
        for (p, _), old in zip(groups, saved):
            p.copy_(old)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, group)
        return loss


class LooksOnceMoreSam(ClosureSam):
    """Calls the closure, backward and all, where the step has led."""

    def step(self, closure):
        super().step(closure)
        return closure()


class NoEtaAsam(TwoStepAsam):
    """As the much-used public SAM has it with adaptive=True: T = |w|."""

    eta = 0.0


RIGHT = [
    ("torch-two-step", "optimizer", "sam", TwoStepSam),
    ("torch-closure", "optimizer", "sam", ClosureSam),
    ("torch-foreach", "optimizer", "sam", ForeachSam),
    ("torch-keywords", "optimizer", "sam", SamWithKeywords),
    ("torch-hooks", "optimizer", "sam", hooked_sgd),
    ("torch-asam", "optimizer", "asam", TwoStepAsam),
    ("torch-rsam-flat", "optimizer", "rsam", FlatRsam),
    ("torch-rsam-inside", "optimizer", "rsam", RsamInside),
    ("torch-rsam-factory", "optimizer", "rsam", rsam_factory),
    ("torch-rsam-halves", "optimizer", "rsam", RsamInHalves),
    ("torch-of-model", "optimizer", "sam", SamOfModel),
    ("torch-own-names", "optimizer", "sam", OwnNamesSam),
    ("torch-plain", "optimizer", "sam", PlainSam),
    ("torch-own-momentum", "optimizer", "sam", OwnMomentumSam),
    ("torch-hands-on", "optimizer", "sam", HandsOnSam),
    (
        "torch-partial",
        "optimizer",
        "sam",
        functools.partial(TwoStepSam, base_optimizer=torch.optim.SGD),
    ),
    ("loop-sam", "loop", "sam", sam_loop),
    ("loop-sam-vector", "loop", "sam", sam_loop_vector),
    ("loop-sam-twin", "loop", "sam", sam_loop_twin),
    ("loop-sam-functional", "loop", "sam", sam_loop_functional),
    ("loop-sam-logs", "loop", "sam", sam_loop_that_logs),
    ("loop-rsam", "loop", "rsam", rsam_loop),
    ("loop-rsam-transformed", "loop", "rsam", rsam_loop_transformed),
]


class AroundAdam(TwoStepSam):
    """Its own base, whatever was asked for."""

    def __init__(self, params, rho=0.05, lr=1e-3, weight_decay=0.0):
        super().__init__(params, torch.optim.Adam, rho, lr=lr, weight_decay=weight_decay)


NOTED = [
    ("torch-adam", "optimizer", "sam", AroundAdam, ("update.own-base",)),
    (
        "torch-nesterov",
        "optimizer",
        "sam",
        functools.partial(TwoStepSam, base_optimizer=torch.optim.SGD, nesterov=True, momentum=0.8),
        ("update.own-base",),
    ),
    ("torch-subtracts", "optimizer", "sam", SubtractingSam, ("restore.by-subtraction",)),
    ("torch-norm-in-float32", "optimizer", "sam", LowNormSam, ("precision.low",)),
    ("torch-looks-once-more", "optimizer", "sam", LooksOnceMoreSam, ("cost.extra-evaluations",)),
    ("torch-asam-no-eta", "optimizer", "asam", NoEtaAsam, ("ascent.asam-reading",)),
    ("torch-backward-first", "optimizer", "sam", BackwardFirstSam, ("contract.backward-first",)),
    (
        "torch-gradients-off",
        "optimizer",
        "sam",
        GradientsOffSam,
        ("contract.closure-without-gradients",),
    ),
]
