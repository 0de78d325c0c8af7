import torch


@torch.no_grad()
def adaptive_epsilon(params, rho, eta):
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
    t = torch._foreach_add(torch._foreach_abs(params), eta)
    tg = torch._foreach_mul(t, grads)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tg))).item()
    return torch._foreach_mul(torch._foreach_mul(t, tg), rho / (norm + 1e-12))


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    eps = adaptive_epsilon(params, hyper.rho, hyper.eta)
    before = [p.detach().clone() for p in params]
    with torch.no_grad():
        torch._foreach_add_(params, eps)
    buffers = list(model.buffers())
    kept = [b.clone() for b in buffers]
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        torch._foreach_copy_(params, before)
        if buffers:
            torch._foreach_copy_(buffers, kept)
    optimizer.step()
    return loss
