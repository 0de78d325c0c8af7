import torch
from torch.func import functional_call


def tree_norm(tree):
    return torch.sqrt(sum(torch.sum(t * t) for t in tree.values()))


def train_step(model, optimizer, loss_fn, batch, hyper):
    x, y = batch
    params = {k: p.detach().clone() for k, p in model.named_parameters()}

    def loss_at(p, buffers):
        return loss_fn(functional_call(model, {**p, **buffers}, (x,)), y)

    noise = {}
    for k, p in params.items():
        dims = tuple(range(1, p.dim()))
        noise[k] = hyper.sigma * (p.norm(p=2, dim=dims, keepdim=True) if dims else p.norm()) * torch.randn_like(p)

    seed = torch.get_rng_state()
    live = dict(model.named_buffers())
    at_noise = {k: (params[k] + noise[k]).requires_grad_() for k in params}
    loss = loss_at(at_noise, live)
    g0 = dict(zip(params, torch.autograd.grad(loss, list(at_noise.values()), allow_unused=True)))
    g0 = {k: torch.zeros_like(params[k]) if v is None else hyper.lam * v for k, v in g0.items()}
    norm = tree_norm(g0) + 1e-12

    torch.set_rng_state(seed)
    at_eps = {k: (params[k] + hyper.rho * (g0[k] + noise[k]) / norm).requires_grad_() for k in params}
    g = torch.autograd.grad(loss_at(at_eps, {k: b.clone() for k, b in live.items()}), list(at_eps.values()), allow_unused=True)
    for p, v in zip(model.parameters(), g):
        p.grad = v
    optimizer.step()
    return loss.detach()
