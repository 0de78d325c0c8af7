import torch


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    rng = torch.get_rng_state()  # both passes shall use the same dropout masks

    params = [p for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in params])
    w = [p.detach().clone() for p in params]
    with torch.no_grad():
        torch._foreach_add_(params, [p.grad * (hyper.rho / (norm + 1e-12)) for p in params])

    momenta = {}
    for m in model.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            momenta[m], m.momentum = m.momentum, 0.0
    optimizer.zero_grad()
    torch.set_rng_state(rng)
    loss_fn(model(x), y).backward()
    for m, value in momenta.items():
        m.momentum = value
    with torch.no_grad():
        torch._foreach_copy_(params, w)
    optimizer.step()
    return loss.item()
