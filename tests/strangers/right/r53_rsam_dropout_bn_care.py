"""Same dropout masks in both passes; running statistics move in the first pass only."""
import torch
from torch import nn

_draws = torch.Generator()
_draws.manual_seed(3)


class no_statistics:
    """momentum = 0 for every batch norm while inside; None (cumulative) is handled too."""

    def __init__(self, model):
        self.layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]

    def __enter__(self):
        self.kept = [(m.momentum, {k: v.clone() for k, v in m.named_buffers(recurse=False)}) for m in self.layers]

    def __exit__(self, *exc):
        for m, (momentum, buffers) in zip(self.layers, self.kept):
            m.momentum = momentum
            for k, v in buffers.items():
                getattr(m, k).copy_(v)


def noise_for(p, sigma):
    z = torch.randn(p.shape, generator=_draws, dtype=p.dtype)
    if p.dim() > 1:
        return sigma * z * p.flatten(start_dim=1).norm(dim=1).unflatten(0, (-1, *[1] * (p.dim() - 1)))
    return sigma * z * p.norm()


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    model.train()
    params = [p for p in model.parameters() if p.requires_grad]
    rng = torch.get_rng_state()
    with torch.no_grad():
        old = [p.clone() for p in params]
        noise = [noise_for(p, hyper.sigma) for p in old]
        for p, d in zip(params, noise):
            p.add_(d)
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    with torch.no_grad():
        a = [d if p.grad is None else hyper.lam * p.grad + d for p, d in zip(params, noise)]
        norm = torch.stack([v.norm() for v in a]).norm()
        for p, w, v in zip(params, old, a):
            p.copy_(w + hyper.rho * v / (norm + 1e-12))
    optimizer.zero_grad()
    torch.set_rng_state(rng)
    with no_statistics(model):
        loss_fn(model(x), y).backward()
    with torch.no_grad():
        for p, w in zip(params, old):
            p.copy_(w)
    optimizer.step()
    return loss.item()
