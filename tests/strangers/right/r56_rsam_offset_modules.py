"""Never touches p.data: the offsets are added to the weights in a functional call, with .backward()."""
import torch
from torch.func import functional_call


class Explorer:
    def __init__(self, model, loss_fn):
        self.model, self.loss_fn = model, loss_fn

    def gradient(self, batch, offset, keep_buffers):
        x, y = batch
        leaves = {n: (p.detach() + offset[n]).requires_grad_() for n, p in self.model.named_parameters() if n in offset}
        buffers = {n: b.clone() if keep_buffers else b for n, b in self.model.named_buffers()}
        loss = self.loss_fn(functional_call(self.model, (leaves, buffers), x), y)
        grads = torch.autograd.grad(loss, tuple(leaves.values()), allow_unused=True)
        return loss.detach(), {n: g for n, g in zip(leaves, grads)}


def train_step(model, optimizer, loss_fn, batch, rho, sigma, lam):
    explorer = Explorer(model, loss_fn)
    D = {}
    for n, p in model.named_parameters():
        if not p.requires_grad:
            continue
        v = p.detach()
        scale = v.norm() if v.dim() <= 1 else v.flatten(1).norm(dim=1).view(v.size(0), *(1 for _ in v.shape[1:]))
        D[n] = torch.randn(v.size(), dtype=v.dtype).mul(scale).mul(sigma)
    loss, g0 = explorer.gradient(batch, D, keep_buffers=False)
    a = {n: d if g0[n] is None else lam * g0[n] + d for n, d in D.items()}
    norm = torch.sqrt(sum(v.square().sum() for v in a.values())) + 1e-12
    _, g = explorer.gradient(batch, {n: rho * v / norm for n, v in a.items()}, keep_buffers=True)
    for n, p in model.named_parameters():
        p.grad = g.get(n)
    optimizer.step()
    optimizer.zero_grad()
    return loss
