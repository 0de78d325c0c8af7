import torch


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    model.train()
    loss = loss_fn(model(x), y)
    params = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, params, allow_unused=True)
    norm = torch.stack([g.norm() for g in grads if g is not None]).norm() + 1e-12

    old = [p.detach().clone() for p in params]
    with torch.no_grad():
        for p, g in zip(params, grads):
            if g is not None:
                p.add_(hyper.rho / norm * g)

    model.eval()  # keeps the running statistics as they are
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    model.train()

    with torch.no_grad():
        for p, w in zip(params, old):
            p.copy_(w)
    optimizer.step()
    return loss.detach()
