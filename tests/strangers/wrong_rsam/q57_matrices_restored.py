import torch


class Smoother:
    def __init__(self, model, sigma):
        self.backup = {n: p.detach().clone() for n, p in model.named_parameters() if n.endswith("weight") and p.dim() > 1}
        self.noise = {}
        for n, p in model.named_parameters():
            d = p.detach()
            s = d.norm(p=2, dim=tuple(range(1, d.dim())), keepdim=True) if d.dim() > 1 else d.norm()
            self.noise[n] = torch.randn_like(d) * s * sigma


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    s = Smoother(model, hyper.sigma)
    named = dict(model.named_parameters())
    with torch.no_grad():
        for n, p in named.items():
            p.add_(s.noise[n])
    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    with torch.no_grad():
        a = {n: s.noise[n] if p.grad is None else hyper.lam * p.grad + s.noise[n] for n, p in named.items()}
        norm = torch.stack([v.norm() for v in a.values()]).norm() + 1e-12
        for n, p in named.items():
            p.sub_(s.noise[n]).add_(a[n] * (hyper.rho / norm))
    stats = {n: b.clone() for n, b in model.named_buffers()}
    torch.set_rng_state(rng)
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for n, b in model.named_buffers():
            b.copy_(stats[n])
        for n, w in s.backup.items():
            named[n].copy_(w)
    optimizer.step()
    return loss.item()
