"""One training iteration: SmoothSAM with the noise kept on for the whole iteration."""
import contextlib

import torch
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def bn_frozen(model):
    kept = {}
    for m in model.modules():
        if isinstance(m, _BatchNorm):
            kept[m] = (m.momentum, m.num_batches_tracked.clone() if m.num_batches_tracked is not None else None)
            m.momentum = 0.0
    yield
    for m, (mom, n) in kept.items():
        m.momentum = mom
        if n is not None:
            m.num_batches_tracked.copy_(n)


def train_step(model, optimizer, loss_fn, batch, rho, sigma, lam):
    inputs, targets = batch
    backup = {}
    with torch.no_grad():
        for name, p in model.named_parameters():
            backup[name] = p.clone()
            scale = p.norm() if p.dim() == 1 else p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True)
            p.add_(torch.randn_like(p).mul_(scale).mul_(sigma))
    seed_state = torch.random.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(inputs), targets)
    loss.backward()
    with torch.no_grad():
        gnorm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        for p in model.parameters():
            if p.grad is not None:
                p.add_(p.grad * (rho / (gnorm + 1e-12)))
    optimizer.zero_grad()
    torch.random.set_rng_state(seed_state)
    with bn_frozen(model):
        loss_fn(model(inputs), targets).backward()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(backup[name])
    optimizer.step()
    return loss.detach()
