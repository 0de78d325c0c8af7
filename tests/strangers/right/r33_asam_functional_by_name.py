import torch
from torch.func import functional_call


def train_step(model, optimizer, loss_fn, batch, rho, eta=0.01):
    x, y = batch
    live = {n: p for n, p in model.named_parameters() if p.requires_grad}

    loss = loss_fn(model(x), y)
    g0 = dict(zip(live, torch.autograd.grad(loss, list(live.values()), allow_unused=True, materialize_grads=True)))
    with torch.no_grad():
        t = {n: p.abs() + eta for n, p in live.items()}
        norm = sum((t[n] * g0[n]).square().sum() for n in live).sqrt()
        moved = {n: (p + rho * t[n].square() * g0[n] / (norm + 1e-12)) for n, p in live.items()}
    moved = {n: v.detach().requires_grad_() for n, v in moved.items()}
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    loss_fn(functional_call(model, {**moved, **buffers}, (x,)), y).backward()
    for n, p in live.items():
        p.grad = moved[n].grad
    optimizer.step()
    return loss.detach()
