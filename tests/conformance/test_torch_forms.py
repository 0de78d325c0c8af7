"""How an implementation in PyTorch is made, driven and seen, and what is told where that fails."""

from __future__ import annotations

import functools

import pytest

torch = pytest.importorskip("torch")

from rsam_ref.conformance import BrokenError, check  # noqa: E402

from .plants_modes import NormsAloneStacked  # noqa: E402
from .right_torch import (  # noqa: E402
    ClosureSam,
    ForeachSam,
    OwnMomentumSam,
    RsamInHalves,
    SamOfModel,
    TwoStepSam,
    sam_loop,
)


def codes(report):
    return [f.code for f in report.findings if not f.note]


# What is seen


def perturbed_elsewhere(second_gradient):
    """A right SAM loop, whose second gradient comes from ``second_gradient(model, weights, ...)``
    at weights that are no parameters of the model.
    """

    def train_step(model, optimizer, loss_fn, batch, hyper):
        x, y = batch
        names, params = zip(*model.named_parameters())
        first = torch.autograd.grad(loss_fn(model(x), y), params)
        norm = torch.cat([g.flatten() for g in first]).norm() + 1e-12
        at = {n: (p + hyper.rho / norm * g).detach() for n, p, g in zip(names, params, first)}
        for p, g in zip(params, second_gradient(model, at, loss_fn, x, y)):
            p.grad = g
        optimizer.step()

    return train_step


def by_another_of_its_kind(model, weights, loss_fn, x, y):
    other = type(model)().to(x.dtype)
    other.load_state_dict(weights, strict=False)
    return torch.autograd.grad(loss_fn(other(x), y), list(other.parameters()))


def by_its_layers(model, weights, loss_fn, x, y):
    weights = {n.removeprefix("layers."): p.requires_grad_() for n, p in weights.items()}
    output = torch.func.functional_call(model.layers, weights, (x,))
    return torch.autograd.grad(loss_fn(output, y), list(weights.values()))


def by_sample(model, weights, loss_fn, x, y):
    def loss(weights, x, y):
        return loss_fn(torch.func.functional_call(model, weights, (x[None],)), y[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, x, y)
    return [g.mean(dim=0) for g in each.values()]


@pytest.mark.parametrize(
    ("second_gradient", "says"),
    [
        (by_another_of_its_kind, "outputs did not come from the model"),
        (by_its_layers, "Run model"),
        (by_sample, "whole mini-batch"),
    ],
)
def test_a_gradient_at_weights_that_cannot_be_seen_is_no_verdict(second_gradient, says):
    with pytest.raises(BrokenError, match=says):
        check(perturbed_elsewhere(second_gradient), "sam", form="loop")


def test_a_loss_that_is_only_looked_at_may_come_from_anywhere():
    def train_step(model, optimizer, loss_fn, batch, hyper):
        other = type(model)().to(batch[0].dtype)
        loss_fn(other(batch[0]), batch[1]).item()
        return sam_loop(model, optimizer, loss_fn, batch, hyper)

    assert codes(check(train_step, "sam", form="loop")) == []


# How it is made


def test_groups_are_not_asked_of_what_is_made_from_the_model():
    report = check(SamOfModel, "sam")
    assert report.conforms
    assert "takes the model, not groups" in report.probes["two groups"]
    assert check(ForeachSam, "sam").probes["two groups"] == "passed"


def test_settings_that_could_not_be_passed_are_told():
    report = check(OwnMomentumSam, "sam")
    assert report.conforms
    assert (
        "momentum (taken to be 0.9) and weight_decay (taken to be 0.01) could not be passed to "
        in (report.probes["settings"])
    )
    assert "settings" not in check(ClosureSam, "sam").probes


class HiddenMomentumSam(ClosureSam):
    """A momentum that is in no group: it cannot be found out."""

    def __init__(self, params, lr=0.1, rho=0.05):
        super().__init__(params, lr, rho=rho)
        for group in self.param_groups:
            del group["momentum"]

    def move(self, p, group):
        super().move(p, {**group, "momentum": 0.7})


def test_a_momentum_that_cannot_be_passed_is_read_off():
    report = check(HiddenMomentumSam, "sam")
    assert report.conforms
    assert "momentum (it looks like 0.7)" in report.probes["settings"]
    assert "could not be passed to HiddenMomentumSam" in report.probes["settings"]


class AdamSam(TwoStepSam):
    def __init__(self, params, lr=0.1, rho=0.05):
        adam = functools.partial(torch.optim.Adam, betas=(0.9, 0.95))
        super().__init__(params, adam, rho, lr=lr)


def test_another_base_optimizer_is_named():
    finding = check(AdamSam, "sam").findings[0]
    assert finding.code == "update.own-base"
    assert finding.note
    assert "Adam(lr=" in finding.evidence["explanation"]


class UnlinkedSam(TwoStepSam):
    """Without momentum; a loaded state's groups are no longer those of the base optimizer."""

    def __init__(self, params, lr=0.1, rho=0.05):
        super().__init__(params, torch.optim.SGD, rho, lr=lr)

    def load_state_dict(self, state_dict):
        torch.optim.Optimizer.load_state_dict(self, state_dict)


def test_a_momentum_that_is_not_there_is_not_lost():
    (finding,) = [f for f in check(UnlinkedSam, "sam").findings if not f.note]
    assert finding.code == "resume.lr-lost"


def test_a_partial_is_called_with_what_it_lacks():
    fixed = functools.partial(
        TwoStepSam, base_optimizer=torch.optim.SGD, nesterov=True, momentum=0.5
    )
    report = check(fixed, "sam")
    assert report.conforms
    own = next(f for f in report.findings if f.code == "update.own-base")
    assert "SGD(nesterov=True" in own.evidence["explanation"]

    def named(params, rho=0.05, lr=0.1, momentum=0.0, weight_decay=0.0):
        return ForeachSam(params, lr, momentum, weight_decay, rho)

    assert check(named, "sam").conforms


# How it is driven


class HalvesAndDraw(RsamInHalves):
    step = torch.optim.Optimizer.step


class HalvesOnly(HalvesAndDraw):
    perturb = None


def test_rsam_in_halves_alone_is_no_verdict_but_says_what_to_do():
    assert check(HalvesAndDraw, "rsam").conforms
    with pytest.raises(BrokenError, match=r"pairs.*R-SAM's draw comes before .* step\(closure\)"):
        check(HalvesOnly, "rsam")


def test_sam_for_rsam_says_how_it_was_driven():
    report = check(TwoStepSam, "rsam")
    assert codes(report) == ["algorithm.sam"]
    assert report.findings[0].evidence["driven as"].startswith("backward, first_step")


class BrokenHalves(ForeachSam):
    def first_step(self):
        raise RuntimeError("not any more")

    def second_step(self):
        pass


def test_step_is_called_where_its_halves_fail():
    report = check(BrokenHalves, "sam")
    assert report.conforms
    assert "not any more" in report.probes["first_step and second_step"]


class InheritedStep(torch.optim.SGD):
    """A right SAM in halves; its step is SGD's, and no SAM."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr, momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("rho", rho)

    @torch.no_grad()
    def first_step(self):
        self.pairs = [
            (p, p.clone(), group["rho"])
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        norm = torch.stack([p.grad.norm() for p, *_ in self.pairs]).norm() + 1e-12
        for p, _, rho in self.pairs:
            p += rho / norm * p.grad

    @torch.no_grad()
    def second_step(self):
        for p, old, _ in self.pairs:
            p.copy_(old)
        self.step()


@pytest.mark.parametrize("algorithm", ["sam", "rsam"])
def test_a_step_that_is_torchs_own_is_not_taken_for_its(algorithm):
    report = check(InheritedStep, algorithm)
    assert report.algorithm == "sam"
    assert codes(report) == ["algorithm.sam"] * (algorithm == "rsam")


@pytest.mark.parametrize(
    ("base", "wrong"), [(None, []), ("adam", []), ("sgd", ["update.other-base"])]
)
def test_a_base_that_is_asked_for_is_held_to(base, wrong):
    assert codes(check(AdamSam, "sam", base=base)) == wrong


def test_sgd_is_not_another_base_that_is_asked_for():
    assert codes(check(TwoStepSam, "sam", base="adamw")) == ["update.other-base"]
    assert codes(check(TwoStepSam, "sam", base="sgd")) == []


class MinusInTheVelocity(ClosureSam):
    """SGD by hand: the velocity takes the gradient with a minus, but for the first."""

    def move(self, p, group):
        g, state = p.grad + group["weight_decay"] * p, self.state[p]
        state["v"] = group["momentum"] * state["v"] - g if "v" in state else g
        p.sub_(state["v"], alpha=group["lr"])


def test_an_optimizer_that_uses_its_momentum_otherwise_is_told_so():
    assert codes(check(MinusInTheVelocity, "sam")) == ["update.momentum-changed"]


class RootOfTheGradient(ClosureSam):
    def move(self, p, group):
        p.sub_(p.grad.sign() * p.grad.abs().sqrt(), alpha=group["lr"])


@pytest.mark.parametrize(("base", "wrong"), [(None, []), ("sgd", ["update.other-base"])])
def test_a_base_step_that_fits_no_rule_is_not_the_one_that_is_asked_for(base, wrong):
    report = check(RootOfTheGradient, "sam", base=base)
    assert codes(report) == wrong
    assert "a base step that was not judged" in report.verdict or wrong


class AroundBuilt:
    """Made of a base optimizer that is built, whose groups are its own."""

    def __init__(self, base_optimizer, rho=0.05):
        self.base = base_optimizer
        for group in self.base.param_groups:
            group.setdefault("rho", rho)

    @property
    def param_groups(self):
        return self.base.param_groups

    def add_param_group(self, group):
        self.base.add_param_group(group)

    def norms(self, grads):
        return [torch.cat([g.flatten() for per_group in grads for g in per_group]).norm()] * 2

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        params = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        saved = [(p, p.clone()) for of_group in params for p in of_group]
        norms = self.norms([[p.grad for p in of_group] for of_group in params])
        for group, of_group, norm in zip(self.param_groups, params, norms):
            for p in of_group:
                p.add_(p.grad, alpha=group["rho"] / (float(norm) + 1e-12))
        with torch.enable_grad():
            closure()
        for p, old in saved:
            p.copy_(old)
        self.base.step()
        return loss


class AroundBuiltPerGroup(AroundBuilt):
    def norms(self, grads):
        return [torch.cat([g.flatten() for g in per_group]).norm() for per_group in grads]


def test_what_is_made_of_a_built_optimizer_gets_one_of_two_groups():
    report = check(AroundBuilt, "sam")
    assert codes(report) == []
    assert report.probes["two groups"] == report.probes["a group added later"] == "passed"
    assert codes(check(AroundBuiltPerGroup, "sam")) == ["ascent.norm-per-group"]


def test_what_is_made_of_the_model_gets_no_groups_and_is_told_why():
    told = check(SamOfModel, "sam").probes
    assert "takes the model, not groups of parameters" in told["two groups"], told
    assert "Error" not in told["a group added later"]


class SecondLoss(TwoStepSam):
    """Right by halves; step(closure) gives back the loss at w + eps."""

    def step(self, closure):
        closure = torch.enable_grad()(closure)
        closure()
        self.first_step(zero_grad=True)
        loss = closure()
        self.second_step()
        return loss


class FirstLoss(SecondLoss):
    def step(self, closure):
        losses = []
        super().step(lambda: losses.append(closure()))
        return losses[0]


def test_the_loss_that_a_closure_gives_is_looked_at_where_there_are_halves():
    report = check(SecondLoss, "sam")
    assert report.probes["step(closure)"] == "passed"
    assert codes(report) == ["contract.perturbed-loss"]
    report = check(FirstLoss, "sam")
    assert codes(report) == []
    assert report.probes["the loss that is returned"] == "passed"


def test_a_sam_of_norm_layers_that_cannot_run_without_any_says_so():
    with pytest.raises(BrokenError, match=r"non-empty TensorList.*no normalisation layers.*SAM-ON"):
        check(NormsAloneStacked, "sam")


def with_its_step_replaced(params, hyper):
    """SGD whose step is replaced on the object by one that makes SAM of it."""
    options = {"lr": hyper.lr, "momentum": hyper.momentum, "weight_decay": hyper.weight_decay}
    sgd = torch.optim.SGD(params, **options)
    plain = sgd.step

    def step(closure):
        with torch.enable_grad():
            loss = closure()
        known = [p for group in sgd.param_groups for p in group["params"] if p.grad is not None]
        kept = [p.detach().clone() for p in known]
        size = torch.stack([p.grad.norm() for p in known]).norm() + 1e-12
        with torch.no_grad():
            for p in known:
                p.add_(p.grad, alpha=float(hyper.rho / size))
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for p, old in zip(known, kept):
                p.copy_(old)
        plain()
        return loss

    sgd.step = step
    return sgd


def test_a_step_replaced_on_the_object_is_not_replayed_as_the_base():
    assert codes(check(with_its_step_replaced, "sam")) == []
