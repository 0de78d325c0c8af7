import torch
from torch.func import functional_call


def noise_like(w, sigma):
    flat = w.reshape(w.shape[0], -1) if w.ndim > 1 else w.reshape(1, -1)
    scale = flat.norm(dim=1, keepdim=True)
    return (sigma * scale * torch.randn_like(flat)).reshape(w.shape)


def value_and_grad(model, weights, buffers, loss_fn, x, y):
    leaves = {k: v.detach().requires_grad_(True) for k, v in weights.items()}
    loss = loss_fn(functional_call(model, (leaves, buffers), (x,)), y)
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return loss.detach(), dict(zip(leaves, grads))


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    w = {k: p.detach() for k, p in model.named_parameters()}
    stats = dict(model.named_buffers())
    d = {k: noise_like(p, hyper.sigma) for k, p in w.items()}
    rng = torch.get_rng_state()
    loss, g0 = value_and_grad(model, {k: w[k] + d[k] for k in w}, stats, loss_fn, x, y)
    scaled = {k: torch.zeros_like(w[k]) if g is None else hyper.lam * g for k, g in g0.items()}
    norm = torch.sqrt(sum(v.square().sum() for v in scaled.values())) + 1e-12
    torch.set_rng_state(rng)
    at = {k: w[k] + hyper.rho / norm * scaled[k] for k in w}
    _, g = value_and_grad(model, at, {k: b.clone() for k, b in stats.items()}, loss_fn, x, y)
    for k, p in model.named_parameters():
        p.grad = g[k]
    optimizer.step()
    return loss
