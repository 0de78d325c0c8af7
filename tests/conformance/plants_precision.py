"""Training steps under a gradient scaler, under autocast, and compiled: right ones and wrong ones.

They differ in one thing each from `scaled` or `lowered`, which are right.
"""

from __future__ import annotations

import contextlib

import torch

from .right_torch import rsam_loop, sam_loop, still_statistics


def nothing(*_):
    pass


def kept(params):
    """Copies of the weights, and how they are put back."""
    saved = [p.detach().clone() for p in params]

    @torch.no_grad()
    def put_back(*_):
        for p, old in zip(params, saved):
            p.copy_(old)

    return put_back


@torch.no_grad()
def climb(params, rho):
    norm = torch.stack([p.grad.norm() for p in params]).norm()
    for p in params:
        p.add_(p.grad * (rho / (norm + 1e-12)))


# Gradient scalers ---------------------------------------------------------------------------------


def between(scaler, optimizer):
    """As PyTorch's documentation has it for several steps: unscale_ needs an update before it is
    called again."""
    scaler.update()


def restores_before(scaler, optimizer, put_back):
    put_back()
    scaler.step(optimizer)


def restores_in_a_hook(scaler, optimizer, put_back):
    """The weights are put back where the optimizer steps: and it does not, after an overflow."""
    hook = optimizer.register_step_pre_hook(put_back)
    scaler.step(optimizer)
    hook.remove()


def steps_itself(scaler, optimizer, put_back):
    put_back()
    scaler.unscale_(optimizer)
    optimizer.step()


def scaled(
    *,
    make=None,
    after_first=lambda scaler, optimizer: scaler.unscale_(optimizer),
    ascent=climb,
    after_ascent=between,
    end=restores_before,
    keep=kept,
):
    """A right step that takes a scaler; or one that ``make`` gives to every step."""

    def train_step(model, optimizer, loss_fn, batch, hyper, scaler):
        x, y = batch
        scaler = make() if make else scaler
        params = [p for p in model.parameters() if p.requires_grad]
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        scaler.scale(loss).backward()
        after_first(scaler, optimizer)
        put_back = keep(params)
        before = [p.grad for p in params]
        ascent([p for p, g in zip(params, before) if g is not None], hyper.rho)
        after_ascent(scaler, optimizer)
        optimizer.zero_grad()
        with still_statistics(model):
            scaler.scale(loss_fn(model(x), y)).backward()
        end(scaler, optimizer, put_back)
        scaler.update()
        return loss.detach()

    return train_step


def leaves_at_infinity(model, optimizer, loss_fn, batch, hyper, scaler):
    """A first pass that overflows ends the step; one scaler, updated once."""
    x, y = batch
    params = list(model.parameters())
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    scaler.scale(loss).backward()
    gradients = [(p, p.grad / scaler.get_scale()) for p in params if p.grad is not None]
    norm = torch.stack([g.norm() for _, g in gradients]).norm()
    if not norm.isfinite():
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()
    put_back = kept(params)
    with torch.no_grad():
        for p, g in gradients:
            p.add_(g * (hyper.rho / (norm + 1e-12)))
    optimizer.zero_grad()
    with still_statistics(model):
        scaler.scale(loss_fn(model(x), y)).backward()
    put_back()
    scaler.step(optimizer)
    scaler.update()
    return loss.detach()


def subtracted(params):
    """What was added is subtracted: NaN - NaN is NaN."""
    at = [p.detach().clone() for p in params]
    perturbed = []

    @torch.no_grad()
    def put_back(*_):
        perturbed.extend(p - old for p, old in zip(params, at))
        for p, eps in zip(params, perturbed):
            p.sub_(eps)

    return put_back


def scaled_draw(model, optimizer, loss_fn, batch, hyper, scaler):
    """R-SAM whose first gradient is the scaled one."""
    passes = []

    def scaled_loss(out, y):
        passes.append(scaler.scale(loss_fn(out, y)))
        return passes[-1]

    class Unscaled:
        def zero_grad(self):
            optimizer.zero_grad()

        def step(self):
            scaler.step(optimizer)
            scaler.update()

    return rsam_loop(model, Unscaled(), scaled_loss, batch, hyper) / scaler.get_scale()


# Autocast -----------------------------------------------------------------------------------------


def bfloat16():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def lowered(
    *,
    around_both=contextlib.nullcontext,
    around_each=(bfloat16, bfloat16),
    single=False,
    direction=lambda g, norm: g / (norm + 1e-12),
):
    """A right step with each pass in a block of autocast; ``single``: it takes float32 only."""

    def train_step(model, optimizer, loss_fn, batch, hyper):
        x, y = batch
        x = x.float() if single else x

        def backward(around):
            optimizer.zero_grad()
            with around():
                loss = loss_fn(model(x), y)
            loss.backward()
            return loss.detach()

        with around_both():
            loss = backward(around_each[0])
            params = [p for p in model.parameters() if p.grad is not None]
            put_back = kept(params)
            norm = torch.stack([p.grad.norm() for p in params]).norm()
            with torch.no_grad():
                for p in params:
                    p.add_(direction(p.grad, norm), alpha=hyper.rho)
            with still_statistics(model):
                backward(around_each[1])
        put_back()
        optimizer.step()
        return loss

    return train_step


IN_NO_BLOCK = (contextlib.nullcontext, contextlib.nullcontext)


# Compiled -----------------------------------------------------------------------------------------


def compiles_inside(step):
    """The model and the ascent are compiled in the step, as on a first call."""

    def train_step(model, optimizer, loss_fn, batch, hyper):
        return torch.compile(step, mode="max-autotune")(
            torch.compile(model), optimizer, loss_fn, batch, hyper
        )

    return train_step


def descends(model, optimizer, loss_fn, batch, hyper):
    return sam_loop(model, optimizer, loss_fn, batch, hyper.but(rho=-hyper.rho))


RIGHT = [
    ("scaler-leaves-at-infinity", "loop", "sam", leaves_at_infinity),
    ("compiled-inside", "loop", "sam", compiles_inside(sam_loop)),
]

NOTED = [
    ("scaler-unscaled", "loop", "sam", scaled(), ("scaler.updated-twice",)),
    (
        "scaler-of-scaled-gradients",
        "loop",
        "sam",
        scaled(make=lambda: torch.amp.GradScaler("cpu"), after_first=nothing, after_ascent=nothing),
        ("scaler.made-anew",),
    ),
    ("autocast", "loop", "sam", lowered(), ("precision.autocast",)),
    (
        "autocast-single",
        "loop",
        "sam",
        lowered(single=True),
        ("precision.autocast", "precision.float32"),
    ),
    (
        "autocast-first-pass-only",
        "loop",
        "sam",
        lowered(around_each=(bfloat16, contextlib.nullcontext)),
        ("precision.passes-differ",),
    ),
    (
        "autocast-without-cache",
        "loop",
        "sam",
        lowered(
            around_both=lambda: torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False),
            around_each=IN_NO_BLOCK,
        ),
        ("precision.autocast",),
    ),
]

PLANTS = [
    ("scaler-restores-in-a-hook", "loop", "sam", scaled(end=restores_in_a_hook),
     "scaler.overflow-left-perturbed", ("scaler.overflow-not-skipped",)),
    ("scaler-subtracts", "loop", "sam", scaled(keep=subtracted), "scaler.overflow-not-skipped"),
    ("scaler-steps-itself", "loop", "sam", scaled(end=steps_itself),
     "scaler.overflow-not-skipped"),
    ("scaler-unscales-once", "loop", "sam", scaled(after_ascent=nothing),
     "update.scaled-gradient"),
    ("scaler-draw-beside-scaled", "loop", "rsam", scaled_draw, "direction.scaled-gradient"),
    ("autocast-one-block", "loop", "sam",
     lowered(around_both=bfloat16, around_each=IN_NO_BLOCK), "ascent.cached-weights"),
    ("autocast-descends", "loop", "sam", lowered(direction=lambda g, norm: -g / norm),
     "ascent.descends", ("ascent.nan-at-zero-gradient",)),
    ("autocast-single-not-normalised", "loop", "sam",
     lowered(single=True, direction=lambda g, norm: g), "ascent.not-normalised"),
    ("compiled-descends", "loop", "sam", compiles_inside(descends), "ascent.descends"),
]  # fmt: skip
