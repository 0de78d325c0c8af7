import torch


def l2(model):
    return sum(p.pow(2).sum() for p in model.parameters())


def objective(model, loss_fn, x, y, hyper):
    return loss_fn(model(x), y) + 0.5 * hyper.weight_decay * l2(model)


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    rng = torch.get_rng_state()

    optimizer.zero_grad()
    loss = objective(model, loss_fn, x, y, hyper)
    loss.backward()
    with torch.no_grad():
        grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        norm = torch.stack([g.norm() for g in grads if g is not None]).norm()
        anchors = [p.clone() for p in model.parameters()]
        for p, g in zip(model.parameters(), grads):
            if g is not None:
                p.add_(g, alpha=float(hyper.rho / (norm + 1e-12)))

    buffers = {k: v.clone() for k, v in model.named_buffers()}
    optimizer.zero_grad()
    torch.set_rng_state(rng)
    objective(model, loss_fn, x, y, hyper).backward()
    with torch.no_grad():
        for p, a in zip(model.parameters(), anchors):
            p.copy_(a)
        for k, v in model.named_buffers():
            v.copy_(buffers[k])
    optimizer.step()  # optimizer.param_groups[0]["weight_decay"] is hyper.weight_decay as well
    return loss.item()
