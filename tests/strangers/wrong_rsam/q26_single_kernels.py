import torch
import torch.nn as nn


class Perturbation:
    def __init__(self, model: nn.Module):
        self.model = model
        self.origin = {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def set(self, delta):
        for n, p in self.model.named_parameters():
            p.copy_(self.origin[n] + delta[n])

    @torch.no_grad()
    def clear(self):
        for n, p in self.model.named_parameters():
            p.copy_(self.origin[n])


def kernel_norm(p):
    if p.dim() == 4:
        return p.norm(p=2, dim=(2, 3), keepdim=True)
    if p.dim() == 2:
        return p.norm(p=2, dim=1, keepdim=True)
    return p.norm(p=2)


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    where = Perturbation(model)
    delta = {n: hyper.sigma * kernel_norm(p) * torch.randn_like(p) for n, p in where.origin.items()}
    where.set(delta)
    rng = torch.get_rng_state()
    model.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    for n, p in model.named_parameters():
        if p.grad is not None:
            delta[n] = delta[n] + hyper.lam * p.grad
    norm = torch.sqrt(sum((d**2).sum() for d in delta.values())) + 1e-12
    where.set({n: hyper.rho / norm * d for n, d in delta.items()})
    stats = {n: b.clone() for n, b in model.named_buffers()}
    torch.set_rng_state(rng)
    model.zero_grad()
    loss_fn(model(x), y).backward()
    for n, b in model.named_buffers():
        b.data.copy_(stats[n])
    where.clear()
    optimizer.step()
    return loss.item()
