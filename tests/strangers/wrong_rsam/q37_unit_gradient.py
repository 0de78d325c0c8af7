import torch


def global_norm(tensors):
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in tensors]))


def grads_of(model, loss_fn, x, y):
    loss = loss_fn(model(x), y)
    params = list(model.parameters())
    grads = torch.autograd.grad(loss, params, allow_unused=True)
    return loss.detach(), grads


def train_step(model, optimizer, loss_fn, batch, rho, sigma, lam):
    x, y = batch
    params = list(model.parameters())
    start = [p.detach().clone() for p in params]
    noise = []
    for p in start:
        s = torch.linalg.vector_norm(p, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm()
        noise.append(torch.randn_like(p) * s * sigma)
    with torch.no_grad():
        torch._foreach_add_(params, noise)
    cpu_rng = torch.get_rng_state()
    loss, g0 = grads_of(model, loss_fn, x, y)
    gn = global_norm([g for g in g0 if g is not None]) + 1e-12
    step = [n if g is None else lam * g / gn + n for g, n in zip(g0, noise)]
    sn = global_norm(step) + 1e-12
    with torch.no_grad():
        for p, w, s in zip(params, start, step):
            p.copy_(w + rho * s / sn)
    stats = [b.clone() for b in model.buffers()]
    torch.set_rng_state(cpu_rng)
    _, g = grads_of(model, loss_fn, x, y)
    with torch.no_grad():
        for b, s in zip(model.buffers(), stats):
            b.copy_(s)
        for p, w, gi in zip(params, start, g):
            p.copy_(w)
            p.grad = gi
    optimizer.step()
    return loss.item()
