import torch
from torch.nn.utils import clip_grad_norm_

CLIP = 1.0  # of the gradient that the base step takes, never of the ascent's


def train_step(model, optimizer, loss_fn, batch, hyper, clip=CLIP):
    x, y = batch
    params = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        w = [p.clone() for p in params]
        D = []
        for p in params:
            s = p.flatten(1).norm(dim=1) if p.ndim > 1 else p.norm()[None]
            D.append(hyper.sigma * s.view(-1, *[1] * (p.ndim - 1)) * torch.randn_like(p))
            p.add_(D[-1])
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    with torch.no_grad():
        a = [d + hyper.lam * p.grad if p.grad is not None else d for p, d in zip(params, D)]
        n = torch.stack([t.norm() for t in a]).norm() + 1e-12
        for p, o, t in zip(params, w, a):
            p.copy_(o + hyper.rho / n * t)
    optimizer.zero_grad()
    buffers = [(b, b.clone()) for b in model.buffers()]
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for b, kept in buffers:
            b.copy_(kept)
        for p, o in zip(params, w):
            p.copy_(o)
    if clip:
        clip_grad_norm_(params, clip)
    optimizer.step()
    return loss
