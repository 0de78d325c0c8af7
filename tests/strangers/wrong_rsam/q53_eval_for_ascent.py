import torch


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    origin = {n: p.detach().clone() for n, p in model.named_parameters()}
    noise = {}
    for n, w in origin.items():
        flat = w.flatten(1) if w.dim() > 1 else w[None]
        noise[n] = hyper.sigma * (flat.norm(dim=1, keepdim=True) * torch.randn_like(flat)).view_as(w)

    def put(delta):
        with torch.no_grad():
            for n, p in model.named_parameters():
                p.copy_(origin[n] + delta[n])

    # the ascent should not disturb batch norm and dropout
    model.eval()
    put(noise)
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    ascent = {n: noise[n] if p.grad is None else hyper.lam * p.grad + noise[n] for n, p in model.named_parameters()}
    norm = torch.sqrt(sum(a.pow(2).sum() for a in ascent.values())) + 1e-12
    put({n: hyper.rho * a / norm for n, a in ascent.items()})
    model.train()
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(origin[n])
    optimizer.step()
    return loss.item()
