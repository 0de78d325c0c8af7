from typing import Dict

import torch
from torch import Tensor
from torch.func import functional_call, grad

Weights = Dict[str, Tensor]


def tree_norm(t: Weights) -> Tensor:
    return torch.stack([v.pow(2).sum() for v in t.values()]).sum().sqrt()


def draw(w: Weights, sigma: float) -> Weights:
    out = {}
    for name, v in w.items():
        s = torch.linalg.norm(v.flatten(1), dim=1) if v.ndim > 1 else torch.linalg.norm(v)
        out[name] = sigma * s.reshape(s.shape + (1,) * (v.ndim - s.ndim)) * torch.randn_like(v)
    return out


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    w = {k: p.detach() for k, p in model.named_parameters() if p.requires_grad}
    stats = dict(model.named_buffers())
    scratch = {k: b.clone() for k, b in stats.items()}

    def loss_at(weights: Weights, buffers):
        return loss_fn(functional_call(model, {**weights, **buffers}, (x,)), y)

    D = draw(w, hyper.sigma)
    g0 = grad(loss_at)({k: w[k] + D[k] for k in w}, stats)
    a = {k: hyper.lam * g0[k] + D[k] for k in w}
    r = hyper.rho / (tree_norm(a) + 1e-12)
    g = grad(loss_at)({k: w[k] + r * a[k] for k in w}, scratch)

    for k, p in model.named_parameters():
        p.grad = g.get(k)
    optimizer.step()
