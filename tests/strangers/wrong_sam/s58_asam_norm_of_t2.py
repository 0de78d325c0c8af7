import torch


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()

    with torch.no_grad():
        live = [p for p in model.parameters() if p.grad is not None]
        eps = [(p.abs() + hyper.eta) ** 2 * p.grad for p in live]
        norm = torch.sqrt(sum(e.square().sum() for e in eps))
        keep = [p.clone() for p in live]
        for p, e in zip(live, eps):
            p.add_(hyper.rho * e / (norm + 1e-12))

    optimizer.zero_grad()
    frozen = [m for m in model.modules() if getattr(m, "track_running_stats", False)]
    for m in frozen:
        m.track_running_stats = False
    torch.set_rng_state(rng)
    loss_fn(model(x), y).backward()
    for m in frozen:
        m.track_running_stats = True
    with torch.no_grad():
        for p, k in zip(live, keep):
            p.copy_(k)
    optimizer.step()
    return loss.item()
