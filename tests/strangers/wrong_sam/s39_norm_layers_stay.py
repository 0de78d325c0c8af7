import torch
from torch import nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


def perturbable(model):
    for module in model.modules():
        if isinstance(module, NORMS):
            continue  # perturbing the affine parameters makes training unstable
        for p in module.parameters(recurse=False):
            if p.grad is not None:
                yield p


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()

    with torch.no_grad():
        targets = list(perturbable(model))
        norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
        olds = [p.clone() for p in targets]
        for p in targets:
            p += hyper.rho * p.grad / (norm + 1e-12)

    optimizer.zero_grad()
    track = [(m, m.track_running_stats) for m in model.modules() if hasattr(m, "track_running_stats")]
    for m, _ in track:
        m.track_running_stats = False
    torch.set_rng_state(rng)
    loss_fn(model(x), y).backward()
    for m, flag in track:
        m.track_running_stats = flag

    with torch.no_grad():
        for p, old in zip(targets, olds):
            p.copy_(old)
    optimizer.step()
    return loss.item()
