import torch
from torch import nn

NOISY = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def noise_for(model, sigma):
    noise = {}
    for module in model.modules():
        if not isinstance(module, NOISY):
            continue
        for p in module.parameters(recurse=False):
            flat = p.detach().flatten(1) if p.dim() > 1 else p.detach().unsqueeze(0)
            noise[p] = (torch.randn_like(flat) * flat.norm(dim=1, keepdim=True) * sigma).view_as(p)
    return noise


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    saved = {p: p.detach().clone() for p in model.parameters()}
    noise = noise_for(model, hyper.sigma)
    with torch.no_grad():
        for p, n in noise.items():
            p.add_(n)

    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()

    ascent = {}
    for p in saved:
        g = torch.zeros_like(p) if p.grad is None else p.grad
        ascent[p] = hyper.lam * g + noise.get(p, 0.0)
    norm = torch.stack([a.norm() for a in ascent.values()]).norm() + 1e-12
    with torch.no_grad():
        for p, w in saved.items():
            p.copy_(w + hyper.rho * ascent[p] / norm)

    torch.set_rng_state(rng)
    optimizer.zero_grad()
    tracking = [m for m in model.modules() if getattr(m, "track_running_stats", False)]
    for m in tracking:
        m.track_running_stats = False
    kept = [b.clone() for b in model.buffers()]
    loss_fn(model(x), y).backward()
    for m in tracking:
        m.track_running_stats = True
    with torch.no_grad():
        for b, k in zip(model.buffers(), kept):
            b.copy_(k)
        for p, w in saved.items():
            p.copy_(w)
    optimizer.step()
    return loss.item()
