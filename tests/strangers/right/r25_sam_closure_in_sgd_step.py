from contextlib import contextmanager

import torch


@contextmanager
def statistics_at_rest(model):
    layers = {m: m.momentum for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}
    for m in layers:
        m.momentum = 0.0
    yield
    for m, momentum in layers.items():
        m.momentum = momentum


def make_sam_closure(model, loss_fn, x, y, rho):
    """A closure for a plain optimizer.step(closure): it leaves SAM's gradient in .grad."""

    def closure():
        params = [p for p in model.parameters() if p.requires_grad]
        loss = loss_fn(model(x), y)
        g0 = torch.autograd.grad(loss, params, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            w0 = [p.clone() for p in params]
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in g0]))
            torch._foreach_add_(params, torch._foreach_mul(list(g0), rho / (norm.item() + 1e-12)))
        with statistics_at_rest(model):
            g = torch.autograd.grad(loss_fn(model(x), y), params, allow_unused=True)
        with torch.no_grad():
            for p, w, gi in zip(params, w0, g):
                p.copy_(w)
                p.grad = gi
        return loss.detach()

    return closure


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    return optimizer.step(make_sam_closure(model, loss_fn, x, y, hyper.rho))
