import torch


def train_step(model, optimizer, loss_fn, batch, hyper):
    inputs, targets = batch
    model.train()
    optimizer.zero_grad()
    cpu_rng = torch.random.get_rng_state()

    loss = loss_fn(model(inputs), targets)
    loss.backward()

    offsets = {}
    with torch.no_grad():
        norm = torch.norm(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]))
        for name, p in model.named_parameters():
            if p.grad is not None:
                offsets[name] = p.detach().clone()
                p += hyper.rho * p.grad / (norm + 1e-12)

    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.track_running_stats, m._kept = False, m.track_running_stats
    torch.random.set_rng_state(cpu_rng)
    loss_fn(model(inputs), targets).backward()
    for m in norms:
        m.track_running_stats = m._kept

    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in offsets:
                p.copy_(offsets[name])
    optimizer.step()
    return loss.detach()
