import torch


def rsam_noise(model, sigma):
    for p in model.parameters():
        scale = p.detach().norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.detach().norm()
        yield torch.randn_like(p) * scale * sigma


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    noise = list(rsam_noise(model, hyper.sigma))
    state = {k: v.clone() for k, v in model.named_parameters()}
    with torch.no_grad():
        for p, n in zip(model.parameters(), noise):
            p.add_(n)
    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    with torch.no_grad():
        for p, n in zip(model.parameters(), noise):
            if p.grad is not None:
                n.add_(p.grad, alpha=hyper.lam)
        norm = torch.linalg.vector_norm(torch.stack([n.norm() for n in noise])) + 1e-12
        for (k, p), n in zip(model.named_parameters(), noise):
            p.copy_(state[k] + n * (hyper.rho / norm))
    torch.set_rng_state(rng)
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for k, p in model.named_parameters():
            p.copy_(state[k])
    optimizer.step()
    return loss.item()
