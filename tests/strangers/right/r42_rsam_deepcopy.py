import copy

import torch


def train_step(model, optimizer, loss_fn, batch, hyper):
    """The network is left alone; a fresh copy goes to w + D, then to w + eps."""
    x, y = batch
    explorer = copy.deepcopy(model)
    shadow = [q for q in explorer.parameters() if q.requires_grad]
    own = [p for p in model.parameters() if p.requires_grad]
    centre = [p.detach() for p in own]

    noise = []
    with torch.no_grad():
        for q, c in zip(shadow, centre):
            rows = c if c.ndim > 1 else c[None]
            n = rows.flatten(1).norm(dim=1).reshape(-1, *([1] * (rows.ndim - 1)))
            noise.append((hyper.sigma * n * torch.randn_like(rows)).reshape(c.shape))
            q.add_(noise[-1])

    explorer.zero_grad(set_to_none=True)
    loss = loss_fn(explorer(x), y)
    loss.backward()
    model.load_state_dict({k: v for k, v in explorer.state_dict().items() if k in dict(model.named_buffers())},
                          strict=False)  # the first pass's statistics are the network's

    with torch.no_grad():
        a = [hyper.lam * (q.grad if q.grad is not None else 0.0) + d for q, d in zip(shadow, noise)]
        norm = torch.cat([v.flatten() for v in a]).norm()
        for q, c, v in zip(shadow, centre, a):
            q.copy_(c + hyper.rho / (norm + 1e-12) * v)
    explorer.zero_grad(set_to_none=True)
    loss_fn(explorer(x), y).backward()

    for p, q in zip(own, shadow):
        p.grad = q.grad
    optimizer.step()
    return loss.detach()
