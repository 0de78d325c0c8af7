import torch


def grad_norm(model):
    return torch.norm(torch.stack([p.grad.norm(2) for p in model.parameters() if p.grad is not None]), 2)


def train_step(model, optimizer, loss_fn, batch, *, rho):
    images, labels = batch
    rng_state = torch.get_rng_state()

    # step 1: gradient at w
    optimizer.zero_grad()
    loss = loss_fn(model(images), labels)
    loss.backward()
    with torch.no_grad():
        scale = rho / (grad_norm(model) + 1e-12)
        original = {}
        for p in model.parameters():
            if p.grad is not None:
                original[p] = p.detach().clone()
                p.add_(p.grad * scale)

    # step 2: gradient at w + e, with the same dropout masks
    optimizer.zero_grad()
    torch.set_rng_state(rng_state)
    loss_fn(model(images), labels).backward()
    with torch.no_grad():
        for p, w in original.items():
            p.copy_(w)
    optimizer.step()
    return loss.item()
