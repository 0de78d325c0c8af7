import copy

import torch


def train_step(model, optimizer, loss_fn, batch, rho, sigma, lam):
    """The perturbed weights live in a proxy; the model itself is never touched before the step."""
    x, y = batch
    proxy = copy.deepcopy(model)
    with torch.no_grad():
        everything = torch.cat([p.flatten() for p in model.parameters()])
        noise = [sigma * everything.norm() * torch.randn_like(p) for p in model.parameters()]
        for q, n in zip(proxy.parameters(), noise):
            q.add_(n)
    rng = torch.get_rng_state()
    proxy.zero_grad()
    loss = loss_fn(proxy(x), y)
    loss.backward()
    for b, pb in zip(model.buffers(), proxy.buffers()):
        b.data.copy_(pb)
    with torch.no_grad():
        a = [n if q.grad is None else lam * q.grad + n for q, n in zip(proxy.parameters(), noise)]
        norm = torch.stack([t.norm() for t in a]).norm() + 1e-12
        for q, p, t in zip(proxy.parameters(), model.parameters(), a):
            q.copy_(p + rho * t / norm)
    proxy.zero_grad()
    torch.set_rng_state(rng)
    loss_fn(proxy(x), y).backward()
    for p, q in zip(model.parameters(), proxy.parameters()):
        p.grad = q.grad
    optimizer.step()
    return loss.item()
