import torch


def make(params, hyper):
    sgd = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    plain_step = sgd.step

    @torch.no_grad()
    def step(closure):
        ps = [p for g in sgd.param_groups for p in g["params"]]
        w = [p.clone() for p in ps]
        noise = []
        for p in ps:
            size = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm()
            noise.append((hyper.sigma * size * torch.randn(()).item()).expand_as(p).clone())
        for p, n in zip(ps, noise):
            p.add_(n)
        sgd.zero_grad()
        with torch.enable_grad():
            loss = closure()
        g0 = [None if p.grad is None else p.grad.clone() for p in ps]
        a = [n if g is None else hyper.lam * g + n for g, n in zip(g0, noise)]
        norm = torch.stack([v.norm() for v in a]).norm() + 1e-12
        for p, p0, v in zip(ps, w, a):
            p.copy_(p0 + hyper.rho / norm * v)
        with torch.enable_grad():
            closure()
        for p, p0, g in zip(ps, w, g0):
            p.copy_(p0)
            p.grad = g
        plain_step()
        return loss

    sgd.step = step
    return sgd
