"""Wrong implementations in PyTorch: optimizers (classes, factories) and whole training steps."""

from __future__ import annotations

import torch

from .right_torch import ClosureSam, RsamInside, TwoStepAsam, TwoStepSam, still_statistics

SGD_SETTINGS = ("lr", "momentum", "weight_decay")


# Two steps ----------------------------------------------------------------------------------------


class SavesAnAlias(TwoStepSam):
    def save(self, p):
        self.saved[p] = p.data


class RestoresNothing(TwoStepSam):
    def restore(self):
        self.saved.clear()


class RestoresWhatHasGradient(TwoStepSam):
    """As davda54's: a parameter without a gradient in the second pass stays where it is."""

    def restore(self):
        for p, old in self.saved.items():
            if p.grad is not None:
                p.copy_(old)
        self.saved.clear()


class NeverZeroes(TwoStepSam):
    """first_step does not heed zero_grad: the second backward adds to the first."""

    def first_step(self, zero_grad=False):
        super().first_step(zero_grad=False)


class ZeroesInBetweenOnly(TwoStepSam):
    """second_step leaves the gradients: the next step's ascent begins with them."""

    def second_step(self, zero_grad=False):
        super().second_step(zero_grad=False)


class OtherWay(TwoStepSam):
    """Its halves are right; step(closure) climbs twice as far."""

    def step(self, closure):
        loss = closure()
        for group in self.param_groups:
            group["rho"] *= 2
        self.first_step(zero_grad=True)
        for group in self.param_groups:
            group["rho"] /= 2
        closure()
        self.second_step(zero_grad=True)
        return loss


class StepsTwice(TwoStepSam):
    """The base optimizer makes its step in the first pass, too, and the climb starts from there."""

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.base_optimizer.step()
        super().first_step(zero_grad)


class RemembersTheAscent(TwoStepSam):
    """The base optimizer steps in both passes; the weights are saved before, so only its velocity
    keeps the first one."""

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        norm = self.norm()
        for p in self.parameters():
            if p.grad is not None:
                self.save(p)
        self.base_optimizer.step()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.copy_(self.saved[p])
                    self.climb(p, group, norm)
        if zero_grad:
            self.zero_grad()


class StepsBeforeRestoring(TwoStepSam):
    """base.step() at w + eps, then eps is subtracted: the decay is that of w + eps."""

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        perturbations = [(p, p - old) for p, old in self.saved.items()]
        self.base_optimizer.step()
        for p, eps in perturbations:
            p.sub_(eps)
        self.saved.clear()
        if zero_grad:
            self.zero_grad()


class StepsThenRestores(TwoStepSam):
    """base.step() and then the saved weights: the step is undone with the perturbation."""

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        self.base_optimizer.step()
        self.restore()
        if zero_grad:
            self.zero_grad()


class KeepsTheFirstGradient(TwoStepSam):
    """The first gradient is put back before the base step, as for GSAM, and left there."""

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.kept = [(p, p.grad.clone()) for p in self.parameters() if p.grad is not None]
        super().first_step(zero_grad)

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, g in self.kept:
            p.grad = g
        super().second_step(zero_grad)


class NormPerTensor(TwoStepSam):
    def climb(self, p, group, norm):
        p.add_(group["rho"] * p.grad / (p.grad.norm() + 1e-12))


class NormPerGroup(TwoStepSam):
    """grad_norm(group) inside the loop over the groups."""

    def climb(self, p, group, norm):
        own = torch.stack([q.grad.norm() for q in group["params"] if q.grad is not None]).norm()
        p.add_(p.grad * (group["rho"] / (own + 1e-12)))


class RhoOfFirstGroup(TwoStepSam):
    def climb(self, p, group, norm):
        super().climb(p, self.param_groups[0], norm)


class RhoOfConstructor(TwoStepSam):
    """self.rho for all groups, whatever they say."""

    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.05, **kwargs):
        self.rho = rho
        super().__init__(params, base_optimizer, rho, **kwargs)

    def climb(self, p, group, norm):
        p.add_(p.grad * (self.rho / (norm + 1e-12)))


class SubtractsTheGradient(TwoStepSam):
    def climb(self, p, group, norm):
        p.sub_(p.grad * (group["rho"] / (norm + 1e-12)))


class DecayInside(TwoStepSam):
    """Weight decay goes into p.grad before the norm is taken."""

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.add_(p, alpha=group["weight_decay"])
        super().first_step(zero_grad)


class CentredDirection(TwoStepSam):
    """use_gc: the norm is the raw gradient's, the direction the centred one's."""

    def climb(self, p, group, norm):
        g = p.grad
        if g.ndim > 1:
            g = g - g.mean(dim=tuple(range(1, g.ndim)), keepdim=True)
        p.add_(g * (group["rho"] / (norm + 1e-12)))


class SquareRootForgotten(TwoStepSam):
    def norm(self):
        return sum(p.grad.pow(2).sum() for p in self.parameters() if p.grad is not None)


class NormOfNorms(TwoStepSam):
    """sum() for the stack's norm()."""

    def norm(self):
        return sum(p.grad.norm() for p in self.parameters() if p.grad is not None)


class WithoutEpsilon(TwoStepSam):
    def climb(self, p, group, norm):
        p.add_(p.grad * (group["rho"] / norm))


class GradientsByHook(TwoStepSam):
    """The ascent's gradient is what a hook saw last: of a batch in parts, the last part's."""

    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.05, **kwargs):
        self.seen = {}
        super().__init__(params, base_optimizer, rho, **kwargs)
        for p in self.parameters():
            p.register_hook(lambda g, p=p: self.seen.__setitem__(p, g.detach().clone()))

    def norm(self):
        return torch.stack([g.norm() for g in self.seen.values()]).norm()

    def climb(self, p, group, norm):
        if p in self.seen:
            p.add_(self.seen[p] * (group["rho"] / (norm + 1e-12)))

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        self.seen.clear()
        super().second_step(zero_grad)


class NeedsAllGradients(TwoStepSam):
    def norm(self):
        return torch.stack([p.grad.norm() for p in self.parameters()]).norm()


class BaseOfItsOwn(TwoStepSam):
    """The base optimizer gets the parameters, not the groups: a scheduler does not reach it."""

    def make_base(self, base_optimizer, kwargs):
        self.base_optimizer = base_optimizer(self.parameters(), **kwargs)

    def state_dict(self):
        return {"own": super().state_dict(), "base": self.base_optimizer.state_dict()}

    def load_state_dict(self, state_dict):
        self.base_optimizer.load_state_dict(state_dict["base"])
        torch.optim.Optimizer.load_state_dict(self, state_dict["own"])


class BaseWithoutDecay(TwoStepSam):
    def make_base(self, base_optimizer, kwargs):
        for group in self.param_groups:
            group["weight_decay"] = 0.0
        super().make_base(base_optimizer, {**kwargs, "weight_decay": 0.0})


class BaseWithoutMomentum(TwoStepSam):
    def make_base(self, base_optimizer, kwargs):
        for group in self.param_groups:
            group.pop("momentum", None)
        kwargs = {name: value for name, value in kwargs.items() if name != "momentum"}
        super().make_base(base_optimizer, kwargs)


class BaseIsDampened(TwoStepSam):
    def make_base(self, base_optimizer, kwargs):
        super().make_base(base_optimizer, {**kwargs, "dampening": kwargs.get("momentum", 0.0)})

    def link(self):
        super().link()
        for group in self.param_groups:
            group["dampening"] = group["momentum"]


class LosesMomentum(TwoStepSam):
    """As davda54's: state_dict is the wrapper's, which does not hold the base's buffers."""

    def link(self):
        self.param_groups = self.base_optimizer.param_groups

    def load_state_dict(self, state_dict):
        torch.optim.Optimizer.load_state_dict(self, state_dict)
        self.base_optimizer.param_groups = self.param_groups


class CannotLoad(TwoStepSam):
    def state_dict(self):
        return {"base": self.base_optimizer.state_dict(), "rho": self.defaults["rho"]}


class AsamForSam(TwoStepAsam):
    """adaptive by default, and without eta."""

    eta = 0.0


class NormalisesTheGradient(TwoStepSam):
    """clip_grad_norm_ that also lengthens: the gradient always has length 1."""

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        norm = self.norm()
        for p in self.parameters():
            if p.grad is not None:
                p.grad.div_(norm + 1e-6)
        super().second_step(zero_grad)


class Gsam(TwoStepSam):
    """GSAM, alpha = 0.4."""

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.kept = {p: p.grad.clone() for p in self.parameters() if p.grad is not None}
        super().first_step(zero_grad)

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        pairs = [(p.grad, g0) for p, g0 in self.kept.items() if p.grad is not None]
        inner = sum((g * g0).sum() for g, g0 in pairs)
        square = sum((g * g).sum() for g, _ in pairs)
        for g, g0 in pairs:
            g.sub_(0.4 * (g0 - inner / (square + 1e-12) * g))
        super().second_step(zero_grad)


class Wsam(TwoStepSam):
    """WSAM, gamma = 0.9, not decoupled."""

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.kept = {p: p.grad.clone() for p in self.parameters() if p.grad is not None}
        super().first_step(zero_grad)

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, g0 in self.kept.items():
            p.grad = -8.0 * g0 + (0.0 if p.grad is None else 9.0 * p.grad)
        super().second_step(zero_grad)


class AliasWithoutDecay(SavesAnAlias, BaseWithoutDecay):
    """Two bugs."""


class StepsBySigns(TwoStepSam):
    """It holds the base optimizer that it was given, and steps by a rule of its own."""

    def second_step(self, zero_grad=False):
        with torch.no_grad():
            self.restore()
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.sub_(group["lr"] * torch.sign(p.grad + group["weight_decay"] * p))
        if zero_grad:
            self.zero_grad()


# step(closure) ------------------------------------------------------------------------------------


class DampenedClosure(ClosureSam):
    def move(self, p, group):
        g = p.grad + group["weight_decay"] * p
        velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
        velocity.lerp_(g, 1 - group["momentum"])
        p.sub_(velocity, alpha=group["lr"])


class DecoupledClosure(ClosureSam):
    def move(self, p, group):
        velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
        velocity.mul_(group["momentum"]).add_(p.grad)
        p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(velocity, alpha=group["lr"])


class OneClosureCall(ClosureSam):
    """The second call of the closure is missing: SGD, computed the long way round."""

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, group)
        return loss


class EveryOtherStep(ClosureSam):
    """The ascent in every second step only."""

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr, momentum, weight_decay, rho)
        self.count = 0

    def step(self, closure):
        self.count += 1
        return (super().step if self.count % 2 else self.plain)(closure)

    plain = OneClosureCall.step


def not_restoring_factory(params, hyper):
    settings = {name: getattr(hyper, name) for name in SGD_SETTINGS}
    return RestoresNothing(params, rho=hyper.rho, **settings)


# R-SAM --------------------------------------------------------------------------------------------


class AliasingRsam(RsamInside):
    """p.data = old makes the weights the saved tensor: the ascent changes both."""

    def put(self, p, value):
        p.data = value


class SeededRsam(RsamInside):
    def draw(self, p, group):
        torch.manual_seed(1)
        return super().draw(p, group)


class UniformRsam(RsamInside):
    def draw(self, p, group):
        z = (2 * torch.rand_like(p) - 1) * 3**0.5
        return group["sigma"] * self.scale(p) * z


class WholeTensorRsam(RsamInside):
    def scale(self, p):
        return p.norm()


class ColumnRsam(RsamInside):
    def scale(self, p):
        return p.norm(dim=0, keepdim=True) if p.ndim == 2 else super().scale(p)


class BiasUnscaledRsam(RsamInside):
    def scale(self, p):
        return 1.0 if p.ndim == 1 else super().scale(p)


class UnscaledRsam(RsamInside):
    """torch.normal(0, sigma, p.shape)."""

    def draw(self, p, group):
        return torch.randn_like(p) * group["sigma"]


class LamIgnoredRsam(RsamInside):
    def direction(self, g, group, noise):
        return g + noise


class LamOnNoiseRsam(RsamInside):
    def direction(self, g, group, noise):
        return g + group["lam"] * noise


class GradientRsam(RsamInside):
    def direction(self, g, group, noise):
        return g.clone()


class VarianceSubtractedRsam(RsamInside):
    """Two bugs: a variance for a standard deviation, and the noise subtracted."""

    def draw(self, p, group):
        return group["sigma"] * super().draw(p, group)

    def direction(self, g, group, noise):
        return group["lam"] * g - noise


# Whole training steps -----------------------------------------------------------------------------


def loop(
    *,
    first_batch=lambda batch: batch,
    second_batch=lambda batch: batch,
    zero_before=True,
    zero_between=True,
    between=None,
    after_first=None,
    loss_scale=lambda batch: 1.0,
    still_first=False,
    still_second=True,
    restore=True,
    radius=lambda hyper, norm: hyper.rho / (norm + 1e-12),
):
    """A right SAM loop, and what can go wrong in it."""

    def train_step(model, optimizer, loss_fn, batch, hyper):
        def backward(batch, still):
            x, y = batch
            if still:
                with still_statistics(model):
                    loss = loss_scale(batch) * loss_fn(model(x), y)
            else:
                loss = loss_scale(batch) * loss_fn(model(x), y)
            loss.backward()
            return loss.detach()

        params = list(model.parameters())
        saved = [p.detach().clone() for p in params]
        if zero_before:
            optimizer.zero_grad()
        loss = backward(first_batch(batch), still_first)
        if after_first is not None:
            after_first(optimizer, params, saved)
        with torch.no_grad():
            climbing = [p for p in params if p.grad is not None]
            norm = torch.stack([p.grad.norm() for p in climbing]).norm()
            for p in climbing:
                p.add_(p.grad, alpha=float(radius(hyper, norm)))
        if zero_between:
            optimizer.zero_grad()
        backward(second_batch(batch), still_second)
        if restore:
            with torch.no_grad():
                for p, old in zip(params, saved):
                    p.copy_(old)
        optimizer.step()
        return loss

    return train_step


def halves(which):
    def part(batch):
        x, y = batch
        middle = len(x) // 2
        return (x[:middle], y[:middle]) if which == 0 else (x[middle:], y[middle:])

    return part


def previous_batch():
    kept = []

    def previous(batch):
        if kept and kept[-1][0].shape != batch[0].shape:
            kept.clear()
        kept.append(batch)
        return kept.pop(0) if len(kept) > 1 else batch

    return previous


@torch.no_grad()
def step_and_come_back(optimizer, params, saved):
    optimizer.step()
    for p, old in zip(params, saved):
        p.copy_(old)


@torch.no_grad()
def step_for_good(optimizer, params, saved):
    optimizer.step()
    for p, old in zip(params, saved):
        old.copy_(p)


def new_sgd_each_step(model, optimizer, loss_fn, batch, hyper):
    """The optimizer is made anew in the step: no momentum lasts."""
    fresh = torch.optim.SGD([{**group} for group in optimizer.param_groups])
    return loop()(model, fresh, loss_fn, batch, hyper)


def sgd_loop(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def rsam_loop(*, at=None, direction=None, keep_noise=False, still_first=False, still_second=True):
    def train_step(model, optimizer, loss_fn, batch, hyper):
        x, y = batch
        params = list(model.parameters())
        saved = [p.detach().clone() for p in params]
        noise = []
        with torch.no_grad():
            for p in params:
                rows = p.reshape(len(p), -1) if p.ndim > 1 else p.reshape(1, -1)
                z = torch.randn_like(rows)
                noise.append((hyper.sigma * rows.norm(dim=1, keepdim=True) * z).view_as(p))
                p.add_(noise[-1])
        optimizer.zero_grad()

        def backward(still):
            if still:
                with still_statistics(model):
                    loss_fn(model(x), y).backward()
            else:
                loss_fn(model(x), y).backward()

        backward(still_first)
        rule = direction or (lambda g, d, lam: lam * g + d)
        with torch.no_grad():
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
            ascent = [rule(g, d, hyper.lam) for g, d in zip(gradients, noise)]
            norm = torch.stack([a.norm() for a in ascent]).norm()
            starts = [old + d for old, d in zip(saved, noise)] if at == "noise" else saved
            for p, start, a in zip(params, starts, ascent):
                p.copy_(start + hyper.rho * a / (norm + 1e-12))
        optimizer.zero_grad()
        backward(still_second)
        with torch.no_grad():
            for p, old, d in zip(params, saved, noise):
                p.copy_(old + d if keep_noise else old)
        optimizer.step()

    return train_step


PLANTS = [
    ("torch-alias", "optimizer", "sam", SavesAnAlias, "restore.not-undone"),
    ("torch-restores-nothing", "optimizer", "sam", RestoresNothing, "restore.not-undone"),
    ("torch-factory-restores-nothing", "optimizer", "sam", not_restoring_factory,
     "restore.not-undone"),
    ("torch-restores-with-gradient", "optimizer", "sam", RestoresWhatHasGradient,
     "restore.skipped-without-gradient"),
    ("torch-never-zeroes", "optimizer", "sam", NeverZeroes, "update.gradients-added"),
    ("torch-zeroes-in-between", "optimizer", "sam", ZeroesInBetweenOnly, "ascent.stale-gradient",
     (), ("ascent.unknown",)),
    ("torch-other-way", "optimizer", "sam", OtherWay, "contract.other-way"),
    ("torch-steps-twice", "optimizer", "sam", StepsTwice, "update.two-steps",
     ("limits.rho-zero",)),
    ("torch-remembers-ascent", "optimizer", "sam", RemembersTheAscent, "update.momentum-twice"),
    ("torch-steps-before-restoring", "optimizer", "sam", StepsBeforeRestoring,
     "update.decay-at-perturbed", ("restore.by-subtraction",)),
    ("torch-steps-then-restores", "optimizer", "sam", StepsThenRestores, "update.no-step"),
    ("torch-keeps-first", "optimizer", "sam", KeepsTheFirstGradient,
     "update.uses-first-gradient"),
    ("torch-norm-per-tensor", "optimizer", "sam", NormPerTensor, "ascent.norm-per-tensor"),
    ("torch-norm-per-group", "optimizer", "sam", NormPerGroup, "ascent.norm-per-group"),
    ("torch-rho-of-first-group", "optimizer", "sam", RhoOfFirstGroup,
     "ascent.one-rho-for-all-groups"),
    ("torch-rho-of-constructor", "optimizer", "sam", RhoOfConstructor,
     "ascent.one-rho-for-all-groups", ("ascent.radius-ignored",), ("ascent.radius-ignored",)),
    ("torch-descends", "optimizer", "sam", SubtractsTheGradient, "ascent.descends"),
    ("torch-decay-inside", "optimizer", "sam", DecayInside, "ascent.decay-inside"),
    ("torch-centred", "optimizer", "sam", CentredDirection, "ascent.centred-gradient"),
    ("torch-squared-norm", "optimizer", "sam", SquareRootForgotten, "ascent.squared-norm"),
    ("torch-sum-of-norms", "optimizer", "sam", NormOfNorms, "ascent.sum-of-norms"),
    ("torch-no-epsilon", "optimizer", "sam", WithoutEpsilon, "ascent.nan-at-zero-gradient"),
    ("torch-gradients-by-hook", "optimizer", "sam", GradientsByHook, "limits.accumulation"),
    ("torch-needs-all-gradients", "optimizer", "sam", NeedsAllGradients,
     "limits.missing-gradient"),
    ("torch-base-of-its-own", "optimizer", "sam", BaseOfItsOwn, "update.lr-ignored"),
    ("torch-no-decay", "optimizer", "sam", BaseWithoutDecay, "update.decay-missing"),
    ("torch-no-momentum", "optimizer", "sam", BaseWithoutMomentum, "update.momentum-missing"),
    ("torch-dampening", "optimizer", "sam", BaseIsDampened, "update.momentum-dampened"),
    ("torch-steps-by-signs", "optimizer", "sam", StepsBySigns, "update.other-base"),
    ("torch-loses-momentum", "optimizer", "sam", LosesMomentum, "resume.momentum-lost"),
    ("torch-cannot-load", "optimizer", "sam", CannotLoad, "resume.fails"),
    ("torch-is-asam", "optimizer", "sam", AsamForSam, "algorithm.asam"),
    ("torch-unit-gradient", "optimizer", "sam", NormalisesTheGradient,
     "update.normalised-gradient"),
    ("torch-gsam", "optimizer", "sam", Gsam, "algorithm.gsam"),
    ("torch-wsam", "optimizer", "sam", Wsam, "algorithm.wsam", (), ("update.gradients-mixed",)),
    ("torch-dampened-closure", "optimizer", "sam", DampenedClosure, "update.momentum-dampened"),
    ("torch-decoupled-closure", "optimizer", "sam", DecoupledClosure, "update.decay-decoupled"),
    ("torch-one-closure-call", "optimizer", "sam", OneClosureCall, "algorithm.base-optimizer",
     ("ascent.missing",)),
    ("torch-every-other-step", "optimizer", "sam", EveryOtherStep, "ascent.skipped",
     ("resume.hidden-state",)),
    ("torch-sgd", "optimizer", "sam", torch.optim.SGD, "algorithm.base-optimizer",
     ("ascent.missing",)),
    ("torch-asam-is-sam", "optimizer", "asam", TwoStepSam, "algorithm.sam"),
    ("torch-rsam-alias", "optimizer", "rsam", AliasingRsam, "restore.not-undone"),
    ("torch-rsam-seeded", "optimizer", "rsam", SeededRsam, "noise.same-draw",
     ("noise.correlated", "noise.same-for-equal-shapes", "contract.reseeds-generator"),
     ("noise.same-for-equal-shapes",)),
    ("torch-rsam-uniform", "optimizer", "rsam", UniformRsam, "noise.not-gaussian"),
    ("torch-rsam-whole-tensor", "optimizer", "rsam", WholeTensorRsam, "noise.whole-tensor"),
    ("torch-rsam-columns", "optimizer", "rsam", ColumnRsam, "noise.wrong-axis"),
    ("torch-rsam-bias-unscaled", "optimizer", "rsam", BiasUnscaledRsam, "noise.bias-unscaled"),
    ("torch-rsam-unscaled", "optimizer", "rsam", UnscaledRsam, "noise.unscaled"),
    ("torch-rsam-lam-ignored", "optimizer", "rsam", LamIgnoredRsam, "direction.lam-ignored"),
    ("torch-rsam-lam-on-noise", "optimizer", "rsam", LamOnNoiseRsam, "direction.lam-on-noise"),
    ("torch-rsam-gradient", "optimizer", "rsam", GradientRsam, "algorithm.rsam-gradient"),
    ("torch-rsam-is-sam", "optimizer", "rsam", ClosureSam, "algorithm.sam",
     ("noise.missing",), ("noise.missing",)),
    ("torch-sam-is-rsam", "optimizer", "sam", RsamInside, "algorithm.rsam"),
    ("loop-bn-twice", "loop", "sam", loop(still_second=False), "batch-norm.moved-twice"),
    ("loop-bn-second", "loop", "sam", loop(still_first=True, still_second=False),
     "batch-norm.moved-by-second-pass"),
    ("loop-bn-frozen", "loop", "sam", loop(still_first=True), "batch-norm.frozen"),
    ("loop-not-undone", "loop", "sam", loop(restore=False), "restore.not-undone"),
    ("loop-gradients-added", "loop", "sam", loop(zero_between=False), "update.gradients-added"),
    ("loop-never-zeroed-before", "loop", "sam", loop(zero_before=False), "ascent.stale-gradient",
     (), ("ascent.unknown",)),
    ("loop-halves", "loop", "sam", loop(first_batch=halves(0), second_batch=halves(1)),
     "update.other-batch"),
    ("loop-previous-batch", "loop", "sam", loop(first_batch=previous_batch()),
     "update.other-batch", ("ascent.stale-gradient", "resume.hidden-state"),
     ("ascent.stale-gradient",)),
    ("loop-momentum-twice", "loop", "sam", loop(after_first=step_and_come_back),
     "update.momentum-twice"),
    ("loop-two-steps", "loop", "sam", loop(after_first=step_for_good), "update.two-steps"),
    ("loop-summed-loss", "loop", "sam", loop(loss_scale=lambda batch: len(batch[0])),
     "update.scaled-gradient"),
    ("loop-not-normalised", "loop", "sam", loop(radius=lambda hyper, norm: hyper.rho),
     "ascent.not-normalised"),
    ("loop-new-sgd", "loop", "sam", new_sgd_each_step, "update.momentum-missing"),
    ("loop-sgd", "loop", "sam", sgd_loop, "algorithm.base-optimizer", ("ascent.missing",)),
    ("loop-rsam-bn-twice", "loop", "rsam", rsam_loop(still_second=False),
     "batch-norm.moved-twice"),
    ("loop-rsam-not-removed", "loop", "rsam", rsam_loop(keep_noise=True), "noise.not-removed"),
    ("loop-rsam-from-noise", "loop", "rsam", rsam_loop(at="noise"),
     "direction.measured-from-noise"),
    ("loop-rsam-lam-on-noise", "loop", "rsam",
     rsam_loop(direction=lambda g, d, lam: g + lam * d), "direction.lam-on-noise"),
]  # fmt: skip

# Both of two independent bugs must be found.
COMPOUND = {
    "torch-alias-no-decay": ("restore.not-undone", "update.decay-missing"),
    "torch-rsam-variance-subtracted": ("noise.sigma-squared", "direction.noise-subtracted"),
    "loop-bn-twice-not-undone": ("restore.not-undone", "batch-norm.moved-twice"),
}
_SUBJECTS = {
    "torch-alias-no-decay": ("optimizer", "sam", AliasWithoutDecay),
    "torch-rsam-variance-subtracted": ("optimizer", "rsam", VarianceSubtractedRsam),
    "loop-bn-twice-not-undone": ("loop", "sam", loop(restore=False, still_second=False)),
}
PLANTS += [(name, *_SUBJECTS[name], codes[0], codes[1:]) for name, codes in COMPOUND.items()]
