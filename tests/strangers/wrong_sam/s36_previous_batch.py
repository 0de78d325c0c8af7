"""The ascent direction should not come from the samples that we then fit: take it from the last batch."""
import weakref

import torch

_last = weakref.WeakKeyDictionary()


def bn_layers(model):
    return [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def train_step(model, optimizer, loss_fn, batch, hyper):
    x0, y0 = _last.get(model, batch)
    x, y = batch
    _last[model] = (x, y)
    rng = torch.get_rng_state()

    optimizer.zero_grad()
    loss = loss_fn(model(x0), y0)
    loss.backward()
    with torch.no_grad():
        gs = {p: p.grad.clone() for p in model.parameters() if p.grad is not None}
        ws = {p: p.clone() for p in gs}
        norm = sum(g.pow(2).sum() for g in gs.values()).sqrt()
        for p, g in gs.items():
            p.add_(g * hyper.rho / (norm + 1e-12))

    optimizer.zero_grad()
    momenta = [m.momentum for m in bn_layers(model)]
    for m in bn_layers(model):
        m.momentum = 0.0
    torch.set_rng_state(rng)
    loss_fn(model(x), y).backward()
    for m, value in zip(bn_layers(model), momenta):
        m.momentum = value
    with torch.no_grad():
        for p, w in ws.items():
            p.copy_(w)
    optimizer.step()
    return loss.item()
