import copy

import torch


def train_step(model, optimizer, loss_fn, batch, hyper):
    """The perturbed weights live in a copy of the network; the network itself is never perturbed."""
    x, y = batch
    model.train()
    adversary = copy.deepcopy(model)
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()

    pairs = list(zip(model.parameters(), adversary.parameters()))
    norm = torch.norm(torch.stack([p.grad.norm() for p, _ in pairs if p.grad is not None]))
    with torch.no_grad():
        for p, q in pairs:
            q.grad = None
            if p.grad is not None:
                q.add_(p.grad, alpha=float(hyper.rho / (norm + 1e-12)))
    loss_fn(adversary(x), y).backward()
    for p, q in pairs:
        p.grad = q.grad
    optimizer.step()
    return loss.item()
