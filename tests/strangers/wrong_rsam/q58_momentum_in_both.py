import torch


def get(model):
    return [p.detach().clone() for p in model.parameters()]


@torch.no_grad()
def put(model, values):
    for p, v in zip(model.parameters(), values):
        p.copy_(v)


def train_step(model, optimizer, loss_fn, batch, rho, sigma, lam):
    x, y = batch
    w = get(model)
    noise = [
        sigma * torch.randn_like(p) * (p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm())
        for p in w
    ]
    put(model, [a + b for a, b in zip(w, noise)])
    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    up = [n if p.grad is None else lam * p.grad + n for p, n in zip(model.parameters(), noise)]
    norm = torch.stack([u.norm() for u in up]).norm() + 1e-12
    optimizer.step()
    put(model, [a + rho * u / norm for a, u in zip(w, up)])
    buffers = [b.clone() for b in model.buffers()]
    torch.set_rng_state(rng)
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    for b, k in zip(model.buffers(), buffers):
        b.copy_(k)
    put(model, w)
    optimizer.step()
    return loss.item()
