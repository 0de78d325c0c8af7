import torch
from torch.nn.utils import clip_grad_norm_

MAX_NORM = 0.1


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    params = list(model.parameters())
    saved = [p.detach().clone() for p in params]
    noise = []
    with torch.no_grad():
        for p in params:
            size = p.norm(p=2, dim=tuple(range(1, p.ndim)), keepdim=True) if p.ndim > 1 else p.norm()
            noise.append(hyper.sigma * size * torch.randn_like(p))
            p.add_(noise[-1])
    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    clip_grad_norm_(params, MAX_NORM)
    with torch.no_grad():
        up = [n if p.grad is None else hyper.lam * p.grad + n for p, n in zip(params, noise)]
        norm = torch.stack([u.norm() for u in up]).norm() + 1e-12
        for p, w, u in zip(params, saved, up):
            p.copy_(w + hyper.rho / norm * u)
    buffers = [b.clone() for b in model.buffers()]
    torch.set_rng_state(rng)
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for b, k in zip(model.buffers(), buffers):
            b.copy_(k)
        for p, w in zip(params, saved):
            p.copy_(w)
    optimizer.step()
    return loss.item()
