import torch


def train_step(model, optimizer, loss_fn, batch, hyper):
    model.train()
    x, y = batch
    params = [p for p in model.parameters() if p.requires_grad]
    w = [p.detach().clone() for p in params]
    d = []
    for p in w:
        n = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm()
        d.append(hyper.sigma * n * torch.randn_like(p))
    with torch.no_grad():
        torch._foreach_add_(params, d)
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    a = [n if p.grad is None else hyper.lam * p.grad + n for p, n in zip(params, d)]
    norm = torch.stack([v.norm() for v in a]).norm() + 1e-12
    with torch.no_grad():
        for p, p0, v in zip(params, w, a):
            p.copy_(p0 + hyper.rho * v / norm)
    bn = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    kept = [{k: v.clone() for k, v in m.named_buffers(recurse=False)} for m in bn]
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for m, k in zip(bn, kept):
            for name, b in m.named_buffers(recurse=False):
                b.copy_(k[name])
        for p, p0 in zip(params, w):
            p.copy_(p0)
    optimizer.step()
    return loss.item()
