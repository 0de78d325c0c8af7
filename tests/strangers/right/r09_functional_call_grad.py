import torch
from torch.func import functional_call, grad_and_value


def train_step(model, optimizer, loss_fn, batch, hyper):
    """Nothing is ever changed in place: both gradients are of a pure function of a dict."""
    x, y = batch
    weights = {k: v.detach() for k, v in model.named_parameters() if v.requires_grad}
    buffers = dict(model.named_buffers())

    def objective(w, b):
        return loss_fn(functional_call(model, (w, b), (x,)), y)

    first, loss = grad_and_value(objective)(weights, buffers)
    length = torch.sqrt(sum(torch.sum(v * v) for v in first.values())) + 1e-12
    shifted = {k: w + hyper.rho * first[k] / length for k, w in weights.items()}
    frozen = {k: v.clone() for k, v in buffers.items()}  # the second pass must not move statistics
    second, _ = grad_and_value(objective)(shifted, frozen)

    for name, p in model.named_parameters():
        if name in second:
            p.grad = second[name].detach()
    optimizer.step()
    optimizer.zero_grad()
    return loss
