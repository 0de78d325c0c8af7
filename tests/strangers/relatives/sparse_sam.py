import torch
from torch import nn

_BN = nn.modules.batchnorm._BatchNorm


def _fisher(model, loss_fn, params, x, y):
    fisher = [torch.zeros_like(p) for p in params]
    training = [m for m in model.modules() if isinstance(m, _BN) and m.training]
    for m in training:
        m.eval()
    for i in range(len(x)):
        loss = loss_fn(model(x[i : i + 1]), y[i : i + 1])
        for f, g in zip(fisher, torch.autograd.grad(loss, params, allow_unused=True)):
            if g is not None:
                f += g.detach() ** 2
    for m in training:
        m.train()
    return fisher


def _top_mask(fisher, sparsity):
    flat = torch.cat([f.flatten() for f in fisher])
    n_keep = flat.numel() - int(sparsity * flat.numel())
    mask = torch.zeros_like(flat)
    mask[flat.topk(n_keep).indices] = 1
    return [m.view_as(f) for m, f in zip(mask.split([f.numel() for f in fisher]), fisher)]


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    sparsity = getattr(hyper, "sparsity", 0.5)
    period = getattr(hyper, "period", 100)
    count = getattr(hyper, "count", 16)
    params = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
    step = optimizer.state[params[0]].get("sam_step", 0)

    if step % period == 0:
        with torch.random.fork_rng():
            fisher = _fisher(model, loss_fn, params, x[:count], y[:count])
        for p, m in zip(params, _top_mask(fisher, sparsity)):
            optimizer.state[p]["mask"] = m
    optimizer.state[params[0]]["sam_step"] = step + 1

    optimizer.zero_grad()
    with torch.random.fork_rng():
        loss = loss_fn(model(x), y)
        loss.backward()

    backup = []
    with torch.no_grad():
        grads = [p.grad.double() for p in params if p.grad is not None]
        norm = torch.cat([g.flatten() for g in grads]).norm().item()
        for p in params:
            if p.grad is None:
                continue
            backup.append((p, p.clone()))
            p.add_(optimizer.state[p]["mask"] * p.grad * (hyper.rho / (norm + 1e-12)))

    optimizer.zero_grad()
    norms = [m for m in model.modules() if isinstance(m, _BN) and m.track_running_stats]
    for m in norms:
        m.track_running_stats = False
    loss_fn(model(x), y).backward()
    for m in norms:
        m.track_running_stats = True

    with torch.no_grad():
        for p, w in backup:
            p.copy_(w)
    optimizer.step()
    return loss.detach()
