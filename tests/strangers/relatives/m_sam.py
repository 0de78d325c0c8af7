from contextlib import contextmanager

import torch
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_running_stats(model):
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for m in norms:
        m.track_running_stats = False
    try:
        yield
    finally:
        for m in norms:
            m.track_running_stats = True


def train_step(model, optimizer, loss_fn, batch, hyper):
    inputs, targets = batch
    parts = getattr(hyper, "accumulate", 2)
    rho = hyper.rho
    params = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
    weights = [p.detach().clone() for p in params]
    mean_grad = [None] * len(params)
    mean_loss = 0.0

    for x, y in zip(inputs.chunk(parts), targets.chunk(parts)):
        share = len(x) / len(inputs)
        rng = torch.get_rng_state()
        loss = loss_fn(model(x), y)
        first = torch.autograd.grad(loss, params, allow_unused=True)
        mean_loss = mean_loss + share * loss.detach()

        with torch.no_grad():
            norm = sum(g.double().pow(2).sum() for g in first if g is not None) ** 0.5
            scale = float(rho / (norm + 1e-12))
            for p, g in zip(params, first):
                if g is not None:
                    p.add_(g * scale)

        torch.set_rng_state(rng)
        with frozen_running_stats(model):
            perturbed = loss_fn(model(x), y)
            second = torch.autograd.grad(perturbed, params, allow_unused=True)

        with torch.no_grad():
            for i, (p, w, g) in enumerate(zip(params, weights, second)):
                p.copy_(w)
                if g is not None:
                    mean_grad[i] = share * g if mean_grad[i] is None else mean_grad[i] + share * g

    for p, g in zip(params, mean_grad):
        p.grad = g
    optimizer.step()
    optimizer.zero_grad()
    return mean_loss
