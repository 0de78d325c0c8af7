import torch
from torch.func import functional_call


def train_step(model, optimizer, loss_fn, batch, hyper):
    """SAM without touching the weights: the perturbed ones are given to functional_call."""
    x, y = batch
    params = {k: p for k, p in model.named_parameters() if p.requires_grad}
    rng = torch.get_rng_state()
    loss = loss_fn(model(x), y)
    grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    norm = torch.sqrt(sum((g * g).sum() for g in grads)) + 1e-12
    moved = {k: p + hyper.rho * g / norm for (k, p), g in zip(params.items(), grads)}
    buffers = {k: b.clone() for k, b in model.named_buffers()}

    optimizer.zero_grad()
    torch.set_rng_state(rng)
    loss_fn(functional_call(model, {**moved, **buffers}, (x,)), y).backward()
    optimizer.step()
    return loss.item()
