import torch


def scale_of(p):
    axes = tuple(range(1, p.dim()))
    return p.square().sum(axes, keepdim=True).sqrt() if axes else p.square().sum().sqrt().add(1e-16)


def train_step(model, optimizer, loss_fn, batch, hyper):
    (x, y) = batch
    names, params = zip(*[(n, p) for n, p in model.named_parameters() if p.requires_grad])
    with torch.no_grad():
        start = {n: p.detach().clone() for n, p in zip(names, params)}
        D = {n: hyper.sigma * scale_of(p) * torch.randn_like(p) for n, p in start.items()}
        for n, p in zip(names, params):
            p.copy_(start[n] + D[n])
    model.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    with torch.no_grad():
        a = {n: hyper.lam * p.grad + D[n] if p.grad is not None else D[n] for n, p in zip(names, params)}
        norm = torch.linalg.vector_norm(torch.nn.utils.parameters_to_vector(a.values()))
        for n, p in zip(names, params):
            p.copy_(start[n] + hyper.rho * a[n] / (norm + 1e-12))
    model.zero_grad()
    running = {k: v.clone() for k, v in model.state_dict().items() if k not in start}
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for k, b in model.named_buffers():
            b.copy_(running[k])
        for n, p in zip(names, params):
            p.copy_(start[n])
    optimizer.step()
    return loss
