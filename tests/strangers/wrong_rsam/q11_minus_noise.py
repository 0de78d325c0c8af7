import torch


def enorm(p):
    return p.detach().flatten(1).norm(dim=1).reshape([-1] + [1] * (p.dim() - 1)) if p.dim() > 1 else p.detach().norm()


def train_step(model, optimizer, loss_fn, batch, hyper):
    images, labels = batch
    originals = [p.data.clone() for p in model.parameters()]
    noise = [hyper["sigma"] * enorm(p) * torch.randn_like(p) for p in model.parameters()]
    for p, n in zip(model.parameters(), noise):
        p.data.add_(n)

    dropout_rng = torch.get_rng_state()
    optimizer.zero_grad(set_to_none=False)
    loss = loss_fn(model(images), labels)
    loss.backward()
    with torch.no_grad():
        # take the noise off and add the gradient on, in one go
        step = []
        for p, n in zip(model.parameters(), noise):
            g = torch.zeros_like(p) if p.grad is None else p.grad
            step.append(hyper["lam"] * g - n)
        norm = torch.cat([s.flatten() for s in step]).norm() + 1e-12
        for p, w, s in zip(model.parameters(), originals, step):
            p.data.copy_(w + hyper["rho"] * s / norm)

    running = {n: b.clone() for n, b in model.named_buffers()}
    torch.set_rng_state(dropout_rng)
    optimizer.zero_grad(set_to_none=False)
    loss_fn(model(images), labels).backward()
    for n, b in model.named_buffers():
        b.data.copy_(running[n])
    for p, w in zip(model.parameters(), originals):
        p.data.copy_(w)
    optimizer.step()
    return loss.item()
