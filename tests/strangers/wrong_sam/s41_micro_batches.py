"""SAM with gradient accumulation, for batches that do not fit."""
import torch

MICRO = 2


def gradients(model, loss_fn, xb, yb, params):
    loss = loss_fn(model(xb), yb)
    return loss.item(), torch.autograd.grad(loss, params)


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    params = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in params]
    losses = 0.0
    for xb, yb in zip(x.chunk(MICRO), y.chunk(MICRO)):
        share = len(xb) / len(x)
        rng = torch.get_rng_state()
        loss, g = gradients(model, loss_fn, xb, yb, params)
        losses += share * loss
        norm = torch.cat([t.flatten() for t in g]).norm() + 1e-12
        statistics = [b.clone() for b in model.buffers()]
        with torch.no_grad():
            kept = [p.clone() for p in params]
            for p, t in zip(params, g):
                p.add_(t * (hyper.rho / norm))
        torch.set_rng_state(rng)
        _, g = gradients(model, loss_fn, xb, yb, params)
        with torch.no_grad():
            for b, old in zip(model.buffers(), statistics):
                b.copy_(old)
            for p, k, acc, t in zip(params, kept, total, g):
                p.copy_(k)
                acc.add_(t, alpha=share)
    for p, acc in zip(params, total):
        p.grad = acc
    optimizer.step()
    optimizer.zero_grad()
    return losses
