import torch


def sam_train_step(model, optimizer, loss_fn, batch, rho=0.05):
    data, target = batch
    named = dict(model.named_parameters())

    loss = loss_fn(model(data), target)
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    norm = sum(g.pow(2).sum().item() for g in grads if g is not None) ** 0.5

    origin = {}
    for (name, p), g in zip(named.items(), grads):
        origin[name] = p.data.clone()
        if g is not None:
            p.data = p.data + rho / (norm + 1e-12) * g

    for p in named.values():
        p.grad = None
    buffers = {n: b.detach().clone() for n, b in model.named_buffers()}
    perturbed_loss = loss_fn(model(data), target)
    perturbed_loss.backward()
    for name, p in named.items():
        p.data = origin[name]
    model.load_state_dict(buffers, strict=False)
    optimizer.step()
    return loss.detach(), perturbed_loss.detach()
