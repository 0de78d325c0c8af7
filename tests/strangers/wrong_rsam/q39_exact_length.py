import copy

import torch


def random_direction(weights):
    """Filter normalisation as for drawing loss landscapes."""
    out = []
    for w in weights:
        d = torch.randn_like(w)
        if w.dim() > 1:
            for df, wf in zip(d, w):
                df.mul_(wf.norm() / (df.norm() + 1e-10))
        else:
            d.mul_(w.norm() / (d.norm() + 1e-10))
        out.append(d)
    return out


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    weights = [p.detach() for p in model.parameters()]
    noise = [hyper.sigma * d for d in random_direction(weights)]

    noisy = copy.deepcopy(model)
    with torch.no_grad():
        for p, n in zip(noisy.parameters(), noise):
            p.add_(n)
    rng = torch.get_rng_state()
    loss = loss_fn(noisy(x), y)
    g0 = torch.autograd.grad(loss, list(noisy.parameters()), allow_unused=True)
    for b, nb in zip(model.buffers(), noisy.buffers()):
        b.data.copy_(nb)

    v = [n if g is None else hyper.lam * g + n for g, n in zip(g0, noise)]
    norm = torch.cat([t.flatten() for t in v]).norm() + 1e-12
    adversary = copy.deepcopy(model)
    with torch.no_grad():
        for p, t in zip(adversary.parameters(), v):
            p.add_(t, alpha=hyper.rho / norm.item())
    torch.set_rng_state(rng)
    g = torch.autograd.grad(loss_fn(adversary(x), y), list(adversary.parameters()), allow_unused=True)
    optimizer.zero_grad()
    for p, gi in zip(model.parameters(), g):
        p.grad = gi
    optimizer.step()
    return loss.item()
