"""Implementations in PyTorch of kinds that a check once called by another name, or by none."""

from __future__ import annotations

import contextlib
import functools

import torch

from .right_torch import ClosureSam, TwoStepSam, still_statistics


class HiddenNesterov(TwoStepSam):
    """Asked for momentum, it takes Nesterov's, and no argument tells."""

    def make_base(self, base_optimizer, kwargs):
        super().make_base(functools.partial(base_optimizer, nesterov=True), kwargs)


class ShownNesterov(TwoStepSam):
    """The same, where the constructor has it as a choice."""

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, nesterov=True, rho=0.05):
        base = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, rho=rho, nesterov=nesterov, **base)


class OwnNesterov(ClosureSam):
    """Nesterov's momentum by a formula of its own, as the constructor chooses."""

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, nesterov=True, rho=0.05):
        super().__init__(params, lr, momentum, weight_decay, rho)
        for group in self.param_groups:
            group["nesterov"] = nesterov

    def looks_ahead(self, group):
        return group["nesterov"]

    def move(self, p, group):
        g = p.grad + group["weight_decay"] * p
        velocity = self.state[p].get("velocity", 0.0)
        self.state[p]["velocity"] = velocity = group["momentum"] * velocity + g
        ahead = g + group["momentum"] * velocity if self.looks_ahead(group) else velocity
        p.sub_(ahead, alpha=group["lr"])


def makes_it_look_ahead(params, hyper):
    own = {"lr": hyper.lr, "momentum": hyper.momentum, "weight_decay": hyper.weight_decay}
    return OwnNesterovUnlessAsked(params, **own, nesterov=True, rho=hyper.rho)


class OwnNesterovUnlessAsked(OwnNesterov):
    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, nesterov=False, rho=0.05):
        super().__init__(params, lr, momentum, weight_decay, nesterov, rho)


class LooksAheadUnasked(OwnNesterovUnlessAsked):
    """The choice is there, and is not Nesterov's."""

    def looks_ahead(self, group):
        return True


class NeedsABackward(TwoStepSam):
    """step(closure) begins with halves: without a backward pass before, there is no gradient."""

    def step(self, closure):
        if all(p.grad is None for p in self.parameters()):
            raise RuntimeError("no gradient yet")
        self.first_step(zero_grad=True)
        loss = closure()
        self.second_step()
        return loss


class NothingWithoutABackward(NeedsABackward):
    """Where no gradient is there yet, it does nothing, and says nothing."""

    def step(self, closure):
        if all(p.grad is None for p in self.parameters()):
            return None
        return super().step(closure)


class PerturbedByItsGradient(TwoStepSam):
    """eps is the gradient's own memory, which the second pass writes to."""

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grads = [p.grad for p in self.parameters() if p.grad is not None]
        size = torch.stack([g.norm() for g in grads]).norm() + 1e-12
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["eps"] = p.grad.mul_(group["rho"] / size)
                    p.add_(self.state[p]["eps"])
        self.zero_grad(set_to_none=False)

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p in self.parameters():
            if p.grad is not None:
                p.sub_(self.state[p]["eps"])
        self.base_optimizer.step()
        self.zero_grad(set_to_none=False)


# Training steps that go through the layers


def by_layers(perturbed_twice, counted_twice):
    """SAM; a weight that two layers share comes twice where the layers are gone through."""

    def train_step(model, optimizer, loss_fn, batch, hyper):
        x, y = batch
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        once = list(model.parameters())
        layers = [p for m in model.modules() for p in m._parameters.values() if p is not None]
        with torch.no_grad():
            saved = [p.clone() for p in once]
            norms = [p.grad.norm() for p in (layers if counted_twice else once)]
            size = torch.stack(norms).norm() + 1e-12
            for p in layers if perturbed_twice else once:
                p.add_(hyper.rho / size * p.grad)
        optimizer.zero_grad()
        with still_statistics(model):
            loss_fn(model(x), y).backward()
        with torch.no_grad():
            for p, old in zip(once, saved):
                p.copy_(old)
        optimizer.step()
        return loss

    return train_step


# Three parts


class InThreeParts(torch.optim.Optimizer):
    """first_step, second_step, third_step, with a base optimizer's step in the last."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, **more):
        super().__init__(params, {"lr": lr, "rho": rho, **more})
        self.base_optimizer = torch.optim.SGD(
            self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay
        )
        self.param_groups = self.base_optimizer.param_groups

    def rows(self):
        return [(group, p) for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def third_step(self):
        for _, p in self.rows():
            p.copy_(self.saved[p])
        self.base_optimizer.step()
        self.zero_grad()

    def state_dict(self):
        return self.base_optimizer.state_dict()

    def load_state_dict(self, state):
        self.base_optimizer.load_state_dict(state)
        self.param_groups = self.base_optimizer.param_groups


class RsamInThreeParts(InThreeParts):
    """The draw, the ascent, the base step."""

    def __init__(self, params, sigma=1e-3, lam=1.0, **more):
        super().__init__(params, sigma=sigma, lam=lam, **more)

    @torch.no_grad()
    def first_step(self):
        self.saved = {p: p.clone() for _, p in self.rows()}
        self.drawn = {}
        for group, p in self.rows():
            axes = tuple(range(1, p.ndim)) or None
            size = torch.linalg.vector_norm(p, dim=axes, keepdim=True) if axes else p.norm()
            self.drawn[p] = group["sigma"] * size * torch.randn_like(p)
            p.add_(self.drawn[p])

    @torch.no_grad()
    def second_step(self):
        along = {
            p: self.drawn[p] + (0 if p.grad is None else group["lam"] * p.grad)
            for group, p in self.rows()
        }
        norm = torch.stack([v.norm() for v in along.values()]).norm()
        for group, p in self.rows():
            p.copy_(self.saved[p] + along[p] * (group["rho"] / (norm + 1e-12)))


class TwoAscents(InThreeParts):
    """2-step SAM: the first two parts are ascents of rho / 2."""

    @torch.no_grad()
    def first_step(self):
        self.saved = {p: p.clone() for _, p in self.rows()}
        self.second_step()

    @torch.no_grad()
    def second_step(self):
        rows = [(group, p) for group, p in self.rows() if p.grad is not None]
        norm = torch.stack([p.grad.norm() for _, p in rows]).norm()
        for group, p in rows:
            p.add_(p.grad * (group["rho"] / 2 / (norm + 1e-12)))


class BayesianInThreeParts(InThreeParts):
    """As bSAM: noise with the variance 1 / s, eps = rho g / s on top of it."""

    @torch.no_grad()
    def first_step(self):
        self.saved = {p: p.clone() for _, p in self.rows()}
        for _, p in self.rows():
            if p.grad is not None:
                s = self.state[p].setdefault("s", torch.ones_like(p))
                p.add_(0.01 * torch.randn_like(p) / s.sqrt())

    @torch.no_grad()
    def second_step(self):
        for group, p in self.rows():
            if p.grad is not None:
                s = self.state[p]["s"]
                p.add_(group["rho"] * p.grad / s)
                s.lerp_((s.sqrt() * p.grad.abs() + 0.1) ** 2, 0.1)


# An ascent for each part of the mini-batch


def m_sam(second_pass):
    """m-SAM; ``second_pass(model)`` is the context of the passes at w + eps."""

    def train_step(model, optimizer, loss_fn, batch, hyper):
        params = list(model.parameters())
        total = [torch.zeros_like(p) for p in params]
        for part in zip(*(whole.split(4) for whole in batch)):
            first = torch.autograd.grad(loss_fn(model(part[0]), part[1]) / 2, params)
            size = torch.stack([g.norm() for g in first]).norm() + 1e-12
            saved = [p.detach().clone() for p in params]
            with torch.no_grad():
                for p, g in zip(params, first):
                    p.add_(g * (hyper.rho / size))
            with second_pass(model):
                second = torch.autograd.grad(loss_fn(model(part[0]), part[1]) / 2, params)
            with torch.no_grad():
                for p, old, sum_, g in zip(params, saved, total, second):
                    p.copy_(old)
                    sum_.add_(g)
        for p, g in zip(params, total):
            p.grad = g
        optimizer.step()

    return train_step


# A way back that comes too early


def put_back_early(model, optimizer, loss_fn, batch, hyper):
    """Between the second run of the network and its backward pass."""
    x, y = batch
    params = list(model.parameters())
    first = torch.autograd.grad(loss_fn(model(x), y), params)
    size = torch.stack([g.norm() for g in first]).norm() + 1e-12
    saved = [p.data.clone() for p in params]
    for p, g in zip(params, first):
        p.data += hyper.rho / size * g
    with still_statistics(model):
        loss = loss_fn(model(x), y)
    for p, old in zip(params, saved):
        p.data.copy_(old)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# Rows of plants.py and right.py

PLANTS = [
    ("torch-hidden-nesterov", "optimizer", "sam", HiddenNesterov, "update.nesterov"),
    ("torch-nesterov-unasked", "optimizer", "sam", LooksAheadUnasked, "update.nesterov"),
    ("torch-two-ascents-in-parts", "optimizer", "sam", TwoAscents, "algorithm.k-step-sam"),
    ("torch-bayesian-in-parts", "optimizer", "sam", BayesianInThreeParts, "algorithm.bayesian-sam",
     ("limits.missing-gradient", "restore.skipped-without-gradient")),
    ("torch-eps-in-the-gradient", "optimizer", "sam", PerturbedByItsGradient, "restore.not-undone",
     ("resume.momentum-lost", "resume.lr-lost", "limits.missing-gradient")),
    ("torch-m-sam-still", "loop", "sam", m_sam(still_statistics), "algorithm.m-sam"),
    ("torch-m-sam-moving", "loop", "sam", m_sam(contextlib.nullcontext), "algorithm.m-sam",
     ("batch-norm.moved-twice",)),
    ("torch-put-back-early", "loop", "sam", put_back_early, "restore.before-backward"),
    *[
        (f"torch-shared-twice-{where}", "loop", "sam", by_layers(*which), "ascent.shared-twice")
        for where, which in {"moved": (1, 0), "counted": (0, 1), "both": (1, 1)}.items()
    ],
]  # fmt: skip
RIGHT = [("torch-rsam-in-three-parts", "optimizer", "rsam", RsamInThreeParts)]
NOTED = [
    ("torch-shown-nesterov", "optimizer", "sam", ShownNesterov, ("update.own-base",)),
    ("torch-own-nesterov", "optimizer", "sam", OwnNesterov, ("update.own-base",)),
    ("torch-made-nesterov", "optimizer", "sam", makes_it_look_ahead, ("update.own-base",)),
    ("torch-needs-a-backward", "optimizer", "sam", NeedsABackward, ("contract.backward-first",)),
    (
        "torch-nothing-without-a-backward",
        "optimizer",
        "sam",
        NothingWithoutABackward,
        ("contract.backward-first",),
    ),
]
