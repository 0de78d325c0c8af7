import torch


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    params = [p for p in model.parameters() if p.requires_grad]

    # 1. random perturbation
    noises = []
    with torch.no_grad():
        for p in params:
            if p.ndim > 1:
                n = p.flatten(1).norm(dim=1).view(-1, *[1] * (p.ndim - 1))
            else:
                n = p.norm() + 1e-16
            noise = torch.randn_like(p) * n * hyper.sigma
            noises.append(noise)
            p += noise

    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()

    # 2. climb
    with torch.no_grad():
        direction = [noise if p.grad is None else hyper.lam * p.grad + noise for p, noise in zip(params, noises)]
        total = torch.sqrt(sum((d * d).sum() for d in direction)) + 1e-12
        climbs = [hyper.rho * d / total for d in direction]
        for p, noise, e in zip(params, noises, climbs):
            p -= noise
            p += e

    stats = [b.clone() for b in model.buffers()]
    torch.set_rng_state(rng)
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    for b, old in zip(model.buffers(), stats):
        b.data.copy_(old)

    # 3. go back and descend
    with torch.no_grad():
        for p, noise, e in zip(params, noises, climbs):
            p -= e
            p -= noise
    optimizer.step()
    return loss.item()
