"""What goes wrong with norm layers, dropout, shared weights, groups, generators and losses.

Each differs in one thing from a right step: of `sam_loop` and `rsam_loop` in right_torch.py, or of
the optimizers there. Right ones, with habits that the checker must not mistake, stand at the end.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .right_torch import (
    ClosureSam,
    ForeachSam,
    RsamInside,
    SubtractingSam,
    TwoStepSam,
    still_statistics,
)

NORMS = (nn.BatchNorm2d, nn.LayerNorm)


# Training steps -----------------------------------------------------------------------------------


def nothing(model):
    pass


def gradients_of(model, optimizer, loss_fn, batch):
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    return loss.detach()


def same_masks(model):
    """The state of the generator before the first pass, to be set before the second."""
    return torch.get_rng_state()


def loop(
    *,
    start=nothing,
    before_first=same_masks,
    after_first=lambda kept: kept,
    before_second=lambda kept: torch.set_rng_state(kept),
    eval_in=(),
    end=nothing,
    perturbed=lambda model: list(model.parameters()),
    restored=lambda model: list(model.parameters()),
    own_step=None,
    second_loss=False,
    sigma=0.0,
    drawn=lambda model: list(model.parameters()),
    gradients=gradients_of,
):
    """A right step, of SAM or with a draw of R-SAM, and what can go wrong around its passes."""

    def train_step(model, optimizer, loss_fn, batch, hyper):
        start(model)
        params = list(model.parameters())
        saved = [p.detach().clone() for p in params]
        noise = [torch.zeros_like(p) for p in params]
        if sigma:
            chosen = {id(p) for p in drawn(model)}
            for i, p in enumerate(params):
                if id(p) in chosen:
                    flat = p.detach().reshape(len(p), -1) if p.ndim > 1 else p.detach()[None]
                    size = flat.norm(dim=1, keepdim=True)
                    noise[i] = (hyper.sigma * size * torch.randn_like(flat)).view_as(p)
        kept = before_first(model)
        with torch.no_grad():
            for p, d in zip(params, noise):
                p.add_(d)
        model.train(1 not in eval_in)
        first = gradients(model, optimizer, loss_fn, batch)
        kept = after_first(kept)
        with torch.no_grad():
            lam = hyper.lam if sigma else 1.0
            a = [d if p.grad is None else lam * p.grad + d for p, d in zip(params, noise)]
            norm = torch.stack([v.norm() for v in a]).norm() + 1e-12
            chosen = {id(p) for p in perturbed(model)}
            for p, old, v in zip(params, saved, a):
                p.copy_(old + hyper.rho * v / norm if id(p) in chosen else old)
        model.train(2 not in eval_in)
        before_second(kept)
        with still_statistics(model):
            second = gradients(model, optimizer, loss_fn, batch)
        model.train()
        with torch.no_grad():
            chosen = {id(p) for p in restored(model)}
            for p, old in zip(params, saved):
                if id(p) in chosen:
                    p.copy_(old)
        if own_step is None:
            optimizer.step()
        else:
            own_step(model, optimizer)
        end(model)
        return second if second_loss else first

    return train_step


def without_norms(model):
    """All parameters but those of the norm layers."""
    norms = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()}
    return [p for p in model.parameters() if id(p) not in norms]


def norms_alone(model):
    """The parameters of the norm layers."""
    return [p for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()]


def left_in_eval(model):
    model.eval()


def frozen_from_the_second_step(model):
    """The momentum is not put back: it is found at 0 in the next step."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.0


def another_momentum(model):
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.05


def shared_weights_twice(model, optimizer):
    """A second base step for a weight that two layers have: it goes through the layers."""
    optimizer.step()
    met = set()
    with torch.no_grad():
        for m in model.modules():
            weight = getattr(m, "weight", None)
            if weight is not None and id(weight) in met:
                weight.sub_(weight.grad, alpha=optimizer.param_groups[0]["lr"])
            met.add(id(weight))


def norms_never_moved(model, optimizer):
    moved = {id(p) for p in without_norms(model)}
    for p in model.parameters():
        if id(p) not in moved:
            p.grad = None
    optimizer.step()


def seeded(model):
    torch.manual_seed(0)
    return torch.get_rng_state()


# Optimizers ---------------------------------------------------------------------------------------


class OtherGroupsAfterLoading(TwoStepSam):
    """The base's state is loaded, but torch gives it new groups, which ours no longer are."""

    def load_state_dict(self, state_dict):
        self.base_optimizer.load_state_dict(state_dict)
        self.state = self.base_optimizer.state


class NormsAlone(torch.optim.Optimizer):
    """SAM of the norm layers, in two halves; their norm is a stack of all their norms."""

    def __init__(self, model, base_optimizer, rho=0.05, stacked=False, **rest):
        super().__init__(model.parameters(), {"rho": rho, **rest})
        self.base_optimizer = base_optimizer(self.param_groups, **rest)
        self.param_groups = self.base_optimizer.param_groups
        self.part, self.stacked = norms_alone(model), stacked

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grads = [p.grad for p in self.part]
        if self.stacked:
            length = torch.stack([g.norm() for g in grads]).norm()
        else:
            length = sum((g**2).sum() for g in grads) ** 0.5
        self.old = [p.clone() for p in self.part]
        for p, g in zip(self.part, grads):
            p.add_(g * (self.param_groups[0]["rho"] / (length + 1e-12)))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in zip(self.part, self.old):
            p.copy_(w)
        self.base_optimizer.step()
        self.zero_grad()


class NormsAloneStacked(NormsAlone):
    """On a network without norm layers torch cannot stack."""

    def __init__(self, model, base_optimizer, rho=0.05, **rest):
        super().__init__(model, base_optimizer, rho, stacked=True, **rest)


class EvalForTheSecond(ForeachSam):
    """Has the model, and the second closure run in eval mode."""

    def __init__(self, model, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(model.parameters(), lr, momentum, weight_decay, rho)
        self.model = model

    def step(self, closure):
        calls = []

        def second_in_eval():
            self.model.train(not calls)
            calls.append(1)
            return closure()

        loss = super().step(second_in_eval)
        self.model.train()
        return loss


class PerturbedLoss(ClosureSam):
    def step(self, closure):
        losses = []

        def kept():
            losses.append(closure())
            return losses[-1]

        super().step(kept)
        return losses[-1]


class SeedsEveryStep(ClosureSam):
    """To have the same masks in both passes, it says."""

    def step(self, closure):
        def seeded_closure():
            torch.manual_seed(1)
            return closure()

        return super().step(seeded_closure)


class FirstGroupsRate(ClosureSam):
    def move(self, p, group):
        super().move(p, {**group, "lr": self.param_groups[0]["lr"]})


class FirstGroupsDecay(ClosureSam):
    def move(self, p, group):
        super().move(p, {**group, "weight_decay": self.param_groups[0]["weight_decay"]})


class LastGroupsRho(TwoStepSam):
    def climb(self, p, group, norm):
        super().climb(p, self.param_groups[-1], norm)


class FlooredNorm(TwoStepSam):
    """The norm is never less than 0.05: short gradients give short perturbations."""

    def norm(self):
        return super().norm().clamp(min=0.05)


class LastGroupsNorm(TwoStepSam):
    def norm(self):
        last = self.param_groups[-1]["params"]
        return torch.stack([p.grad.norm() for p in last if p.grad is not None]).norm()


class FirstGroupsSigma(RsamInside):
    def draw(self, p, group):
        return super().draw(p, self.param_groups[0])


class FirstGroupsLam(RsamInside):
    def direction(self, g, group, noise):
        return super().direction(g, self.param_groups[0], noise)


class OneBaseGroup(TwoStepSam):
    """The base optimizer has all parameters in one group, with the constructor's settings."""

    def make_base(self, base_optimizer, kwargs):
        self.base_optimizer = base_optimizer(self.parameters(), **kwargs)
        self.state = self.base_optimizer.state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for key in ("lr", "weight_decay"):
            self.base_optimizer.param_groups[0][key] = self.param_groups[0][key]
        super().second_step(zero_grad)


class ManagesStatistics(ForeachSam):
    """Has the model: batch norm's statistics rest in the second pass."""

    def __init__(self, model, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(model.parameters(), lr, momentum, weight_decay, rho)
        self.model = model

    def step(self, closure):
        calls = []

        def still():
            calls.append(1)
            if len(calls) == 1:
                return closure()
            with still_statistics(self.model):
                return closure()

        return super().step(still)


class FirstGroupOnly(ForeachSam):
    """Its ascent is that of the first group: the others are stepped with their gradients at w."""

    @torch.no_grad()
    def step(self, closure):
        others, self.param_groups = self.param_groups[1:], self.param_groups[:1]
        loss = super().step(closure)
        self.param_groups += others
        return loss


class SubtractsWhatIsInfinite(SubtractingSam):
    """eps is subtracted: where the first gradient is infinite, the weights stay NaN."""


class SamForAWhile(ClosureSam):
    """From the twelfth step on the radius is 0: it calls the closure once."""

    steps = 0

    def step(self, closure):
        self.steps += 1
        if self.steps < 12:
            return super().step(closure)
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    self.move(p, group)
        return loss


class AroundAdamW(TwoStepSam):
    """With AdamW for its base, whose moments it saves and loads."""

    def __init__(self, params, rho=0.05, lr=0.1, weight_decay=0.0):
        super().__init__(params, torch.optim.AdamW, rho, lr=lr, weight_decay=weight_decay)


class ForgetsTheMoments(AroundAdamW):
    """As the much-used public SAM loads: its base optimizer goes on from nothing."""

    def load_state_dict(self, state_dict):
        torch.optim.Optimizer.load_state_dict(self, state_dict)
        self.base_optimizer.param_groups = self.param_groups


class NotShared(TwoStepSam):
    """Its groups are a list of its own: what is added later never reaches the base optimizer."""

    def link(self):
        self.param_groups = list(self.base_optimizer.param_groups)
        self.state = self.base_optimizer.state


# Functions ----------------------------------------------------------------------------------------


def seeds_numpy(weights, loss_and_grad, state, hyper):
    """SAM, right, in a function that seeds NumPy's global generator."""
    np.random.seed(7)  # noqa: NPY002
    _, g0 = loss_and_grad(weights)
    norm = np.sqrt(sum(float((g * g).sum()) for g in g0)) + 1e-12
    _, g = loss_and_grad([w + hyper.rho * x / norm for w, x in zip(weights, g0)])
    velocity = state.get("velocity", [np.zeros_like(w) for w in weights])
    velocity = [
        hyper.momentum * v + x + hyper.weight_decay * w for v, x, w in zip(velocity, g, weights)
    ]
    return [w - hyper.lr * v for w, v in zip(weights, velocity)], {"velocity": velocity}


# Right, in ways that look otherwise ---------------------------------------------------------------


def in_two_parts(model, optimizer, loss_fn, batch):
    """Each gradient from two halves of the mini-batch: statistics move once for each half."""
    x, y = batch
    optimizer.zero_grad()
    total = 0.0
    for some_x, some_y in zip(x.chunk(2), y.chunk(2)):
        loss = loss_fn(model(some_x), some_y) * (len(some_y) / len(y))
        loss.backward()
        total += loss.detach()
    return total


def draws_in_a_fork(model):
    """What is drawn within fork_rng leaves the generator as it was: the masks go on differing."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        torch.randn(3)


def leave(kept):
    pass


PLANTS = [
    ("modes-eval-in-second", "loop", "sam", loop(eval_in=(2,)), "contract.eval-in-pass"),
    ("modes-eval-in-first", "loop", "sam", loop(eval_in=(1,)), "contract.eval-in-pass",
     ("batch-norm.frozen",)),
    ("modes-eval-in-both", "loop", "sam", loop(eval_in=(1, 2)), "contract.eval-in-pass"),
    ("modes-eval-of-the-optimizer", "optimizer", "sam", EvalForTheSecond,
     "contract.eval-in-pass"),
    ("modes-eval-left-on", "loop", "sam",
     loop(start=nothing, end=left_in_eval), "contract.eval-left-on"),
    ("modes-frozen-later", "loop", "sam", loop(end=frozen_from_the_second_step),
     "batch-norm.frozen"),
    ("modes-momentum-left", "loop", "sam", loop(end=another_momentum),
     "batch-norm.momentum-left"),
    ("modes-masks-restored-late", "loop", "sam",
     loop(after_first=lambda kept: torch.get_rng_state()), "dropout.restored-wrongly"),
    ("modes-seeds-masks", "loop", "sam", loop(before_first=seeded), "contract.reseeds-generator"),
    ("modes-norms-not-perturbed", "loop", "sam", loop(perturbed=without_norms),
     "ascent.norm-layers-left-out"),
    ("resume-other-groups", "optimizer", "sam", OtherGroupsAfterLoading, "resume.lr-lost"),
    ("modes-norms-alone", "loop", "sam", loop(perturbed=norms_alone), "ascent.norm-layers-only"),
    ("modes-norms-alone-halves", "optimizer", "sam", NormsAlone, "ascent.norm-layers-only",
     ("resume.momentum-lost", "resume.lr-lost")),
    ("modes-norms-not-restored", "loop", "sam", loop(restored=without_norms), "restore.partly"),
    ("modes-norms-not-drawn", "loop", "rsam", loop(sigma=1.0, drawn=without_norms),
     "noise.tensor-left-out"),
    ("modes-norms-not-moved", "loop", "sam", loop(own_step=norms_never_moved),
     "update.tensor-left-out"),
    ("modes-shared-moved-twice", "loop", "sam", loop(own_step=shared_weights_twice),
     "update.unknown"),
    ("short-gradients-floored", "optimizer", "sam", FlooredNorm, "ascent.bounded-radius"),
    ("resume-adamw-forgotten", "optimizer", "sam", ForgetsTheMoments, "resume.momentum-lost"),
    ("steps-sam-for-a-while", "optimizer", "sam", SamForAWhile, "ascent.skipped"),
    ("loss-perturbed", "optimizer", "sam", PerturbedLoss, "contract.perturbed-loss"),
    ("seeds-torch", "optimizer", "sam", SeedsEveryStep, "contract.reseeds-generator"),
    ("seeds-numpy", "function", "sam", seeds_numpy, "contract.reseeds-generator"),
    ("groups-first-lr", "optimizer", "sam", FirstGroupsRate, "update.one-lr-for-all-groups"),
    ("groups-first-decay", "optimizer", "sam", FirstGroupsDecay,
     "update.one-decay-for-all-groups"),
    ("groups-one-in-the-base", "optimizer", "sam", OneBaseGroup, "update.one-lr-for-all-groups",
     ("update.one-decay-for-all-groups", "resume.fails", "resume.momentum-lost")),
    ("groups-last-rho", "optimizer", "sam", LastGroupsRho, "ascent.one-rho-for-all-groups"),
    ("groups-last-norm", "optimizer", "sam", LastGroupsNorm, "ascent.norm-per-group"),
    ("groups-first-sigma", "optimizer", "rsam", FirstGroupsSigma,
     "noise.one-sigma-for-all-groups"),
    ("groups-first-lam", "optimizer", "rsam", FirstGroupsLam,
     "direction.one-lam-for-all-groups"),
]  # fmt: skip
"""Rows of plants.py."""

RIGHT = [
    ("modes-same-masks", "loop", "sam", loop()),
    ("modes-in-parts", "loop", "sam", loop(gradients=in_two_parts)),
    ("modes-rsam-drawn-before", "loop", "rsam", loop(sigma=1.0)),
    ("modes-fork", "loop", "sam", loop(before_first=draws_in_a_fork, before_second=leave)),
    ("resume-adamw", "optimizer", "sam", AroundAdamW),
    ("modes-of-model", "optimizer", "sam", ManagesStatistics),
]
NOTED = [
    ("modes-other-masks", "loop", "sam", loop(before_second=leave), ("dropout.masks-differ",)),
    ("loss-second", "loop", "sam", loop(second_loss=True), ("contract.second-loss",)),
    ("groups-first-only", "optimizer", "sam", FirstGroupOnly, ("limits.one-group",)),
    (
        "infinite-gradient-stays",
        "optimizer",
        "sam",
        SubtractsWhatIsInfinite,
        ("precision.overflow-stays", "restore.by-subtraction"),
    ),
    ("groups-added-later", "optimizer", "sam", NotShared, ("limits.added-group",)),
]
"""Rows of right.py."""
