import torch


def rsam_update(optimizer, model, criterion, inputs, labels, rho=0.05, sigma=1e-3, lam=1.0, grad_clip=None):
    """Arguments as in the author's loop: optimizer first, inputs and labels apart."""
    model.train()
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    state = {name: p.detach().clone() for name, p in named}
    direction = {}
    for name, p in named:
        w = state[name]
        unit = torch.sqrt(torch.einsum("i...,i...->i", w, w)) if w.dim() > 1 else torch.sqrt(torch.dot(w, w))
        unit = unit.view(-1, *[1] * (w.dim() - 1)) if w.dim() > 1 else unit
        direction[name] = sigma * unit * torch.randn_like(w)
        p.data.copy_(w + direction[name])
    optimizer.zero_grad()
    outputs = model(inputs)
    loss = criterion(outputs, labels)
    loss.backward()
    for name, p in named:
        if p.grad is not None:
            direction[name] = direction[name] + lam * p.grad.detach()
    norm = torch.cat([d.view(-1) for d in direction.values()]).norm()
    for name, p in named:
        p.data.copy_(state[name] + rho / (norm + 1e-12) * direction[name])
    optimizer.zero_grad()
    for m in model.modules():
        if isinstance(m, torch.nn.modules.batchnorm._NormBase):
            m.momentum, m.kept = 0.0, m.momentum
    criterion(model(inputs), labels).backward()
    for m in model.modules():
        if isinstance(m, torch.nn.modules.batchnorm._NormBase):
            m.momentum = m.__dict__.pop("kept")
    for name, p in named:
        p.data.copy_(state[name])
    if grad_clip is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return loss.item(), (outputs.argmax(1) == labels).float().mean().item() if labels.dim() == 1 and outputs.dim() == 2 else None
