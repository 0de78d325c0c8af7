"""One SAM training step for my CIFAR script."""
import torch


def disable_bn(model):
    saved = {}
    for m in model.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            saved[m] = m.track_running_stats, m.momentum
            m.momentum = 0.0
    return saved


def enable_bn(saved):
    for m, (_, momentum) in saved.items():
        m.momentum = momentum


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()

    with torch.no_grad():
        params = [p for p in model.parameters() if p.grad is not None]
        backup = [p.data for p in params]
        norm = torch.sqrt(sum((p.grad ** 2).sum() for p in params))
        for p in params:
            p.data.add_(p.grad * (hyper.rho / (norm + 1e-12)))

    optimizer.zero_grad()
    saved = disable_bn(model)
    torch.set_rng_state(rng)
    loss_fn(model(x), y).backward()
    enable_bn(saved)

    for p, old in zip(params, backup):
        p.data = old
    optimizer.step()
    return loss.item()
