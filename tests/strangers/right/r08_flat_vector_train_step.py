import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def flat_gradient(params):
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in params])


def disable_running_stats(module):
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        module.backup_momentum, module.momentum = module.momentum, 0.0


def enable_running_stats(module):
    if hasattr(module, "backup_momentum"):
        module.momentum = module.backup_momentum
        del module.backup_momentum


def train_step(model, optimizer, loss_fn, batch, hyper):
    inputs, targets = batch
    params = [p for p in model.parameters() if p.requires_grad]
    theta = parameters_to_vector(params).detach().clone()

    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(model(inputs), targets)
    loss.backward()
    g = flat_gradient(params)
    e = hyper["rho"] * g / (g.norm() + 1e-12)

    with torch.no_grad():
        vector_to_parameters(theta + e, params)
    optimizer.zero_grad(set_to_none=True)
    model.apply(disable_running_stats)
    loss_fn(model(inputs), targets).backward()
    model.apply(enable_running_stats)

    with torch.no_grad():
        vector_to_parameters(theta, params)
    optimizer.step()
    return {"loss": loss.detach()}
