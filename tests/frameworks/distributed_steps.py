"""Training steps for several processes, right ones and wrong ones, which another process finds."""

from __future__ import annotations

import contextlib

import torch
import torch.distributed as dist

from tests.conformance.right_torch import rsam_loop


def gradients_of(model, loss_fn, batch, around):
    model.zero_grad()
    with around():
        loss = loss_fn(model(batch[0]), batch[1])
        loss.backward()
    return loss.detach()


def step(first, second, put_back=lambda p, old: p.copy_(old)):
    """SAM; ``first`` and ``second`` say what is around each pass: `alone` or `together`."""

    def train_step(model, optimizer, loss_fn, batch, hyper):
        loss = gradients_of(model, loss_fn, batch, first(model))
        params = list(model.parameters())
        saved = [p.detach().clone() for p in params]
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        with torch.no_grad():
            for p in params:
                p.add_(p.grad * (hyper.rho / (norm + 1e-12)))
        gradients_of(model, loss_fn, batch, second(model))
        with torch.no_grad():
            for p, old in zip(params, saved):
                put_back(p, old)
        optimizer.step()
        return loss

    return train_step


def alone(model):
    return model.no_sync


def together(model):
    return contextlib.nullcontext


def stays_in_one(p, old):
    """The second worker keeps a part of its perturbation."""
    p.copy_(old + 0.1 * (p - old) * dist.get_rank())


synchronised = step(together, together)
per_worker = step(alone, together)
never_averaged = step(alone, alone)
second_alone = step(together, alone)
drifts = step(together, together, put_back=stays_in_one)


def descends(model, optimizer, loss_fn, batch, hyper):
    return per_worker(model, optimizer, loss_fn, batch, hyper.but(rho=-hyper.rho))


def own_draws(model, optimizer, loss_fn, batch, hyper):
    return rsam_loop(model, optimizer, loss_fn, batch, hyper)


def one_draw(model, optimizer, loss_fn, batch, hyper):
    """Each worker goes on from the first one's generator."""
    state = torch.get_rng_state()
    dist.broadcast(state, 0)
    torch.set_rng_state(state)
    return rsam_loop(model, optimizer, loss_fn, batch, hyper)
