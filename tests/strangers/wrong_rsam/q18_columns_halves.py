import torch


def perturb_(params, deltas):
    with torch.no_grad():
        for p, d in zip(params, deltas):
            p.add_(d)


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    half = len(x) // 2
    params = list(model.parameters())
    w = [p.detach().clone() for p in params]

    noise = []
    for p in w:
        size = p.norm(dim=0, keepdim=True) if p.dim() > 1 else p.norm()
        noise.append(hyper.sigma * size * torch.randn_like(p))

    # the first half of the batch says where to go up, the second one where to go down
    perturb_(params, noise)
    rng = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x[:half]), y[:half])
    loss.backward()
    a = [n if p.grad is None else hyper.lam * p.grad.detach() + n for p, n in zip(params, noise)]
    norm = torch.sqrt(sum(t.pow(2).sum() for t in a)) + 1e-12
    with torch.no_grad():
        for p, p0, t in zip(params, w, a):
            p.copy_(p0 + hyper.rho * t / norm)

    buffers = [b.clone() for b in model.buffers()]
    torch.set_rng_state(rng)
    optimizer.zero_grad()
    loss_fn(model(x[half:]), y[half:]).backward()
    with torch.no_grad():
        for b, old in zip(model.buffers(), buffers):
            b.copy_(old)
        for p, p0 in zip(params, w):
            p.copy_(p0)
    optimizer.step()
    return float(loss)
