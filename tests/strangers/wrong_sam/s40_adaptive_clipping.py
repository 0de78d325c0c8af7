import torch


def unitwise_norm(t):
    return t.norm() if t.ndim < 2 else t.flatten(1).norm(dim=1).view(-1, *[1] * (t.ndim - 1))


def adaptive_clip_(params, factor=0.01, eps=1e-3):
    for p in params:
        if p.grad is not None:
            limit = unitwise_norm(p.detach()).clamp(min=eps) * factor
            p.grad.mul_((limit / unitwise_norm(p.grad).clamp(min=1e-6)).clamp(max=1.0))


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    seed = torch.get_rng_state()
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    adaptive_clip_(model.parameters())
    with torch.no_grad():
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        w = {}
        for k, p in model.named_parameters():
            if p.grad is not None:
                w[k] = p.clone()
                p.add_(p.grad * (hyper.rho / (norm + 1e-12)))
    optimizer.zero_grad()
    running = {k: b.clone() for k, b in model.named_buffers()}
    torch.set_rng_state(seed)
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for k, b in model.named_buffers():
            b.copy_(running[k])
        for k, p in model.named_parameters():
            if k in w:
                p.copy_(w[k])
    optimizer.step()
    return loss.item()
