import torch


def rsam_step(model, optimizer, loss_fn, batch, rho, sigma, lam):
    x, y = batch
    params = [p for p in model.parameters() if p.requires_grad]
    backups = [p.data.clone() for p in params]
    noises = []
    for p in params:
        if p.dim() > 1:
            norm = p.data.view(p.size(0), -1).norm(dim=1)
            norm = norm.view(p.size(0), *((1,) * (p.dim() - 1)))
        else:
            norm = p.data.norm()
        noises.append(torch.randn_like(p.data) * sigma * norm)

    for p, n in zip(params, noises):
        p.data.add_(n)
    grads = torch.autograd.grad(loss_fn(model(x), y), params, allow_unused=True)
    ascent = [n if g is None else n + lam * g for n, g in zip(noises, grads)]
    norm = sum(a.pow(2).sum() for a in ascent).sqrt()
    for p, b, a in zip(params, backups, ascent):
        p.data = b + rho * a / (norm + 1e-12)
    optimizer.zero_grad()
    norms = [m for m in model.modules() if "BatchNorm" in type(m).__name__]
    for m in norms:
        m.track_running_stats = False
    loss = loss_fn(model(x), y)
    loss.backward()
    for m in norms:
        m.track_running_stats = True
    for p, b in zip(params, backups):
        p.data = b
    optimizer.step()
    return loss
