from contextlib import contextmanager

import torch


@contextmanager
def moved(params, offsets):
    """Weights are at w + offset inside, and bitwise w again after."""
    saved = [p.detach().clone() for p in params]
    with torch.no_grad():
        for p, o in zip(params, offsets):
            p.add_(o)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, s in zip(params, saved):
                p.copy_(s)


class RSAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, mu=0.0, wd=0.0, rho=0.05, sigma=1e-3, lam=1.0):
        super().__init__(params, dict(lr=lr, mu=mu, wd=wd, rho=rho, sigma=sigma, lam=lam))

    def _gradients(self, closure, params):
        for p in params:
            p.grad = None
        loss = closure()
        return loss, [p.grad for p in params]

    def step(self, closure):
        params = [p for g in self.param_groups for p in g["params"]]
        setting = [g for g in self.param_groups for _ in g["params"]]
        noise = []
        for p, g in zip(params, setting):
            v = p.detach()
            scale = v.norm(p=2, dim=tuple(range(1, v.dim())), keepdim=True) if v.dim() > 1 else v.norm()
            noise.append(torch.randn_like(v) * scale * g["sigma"])
        with moved(params, noise):
            loss, grads = self._gradients(closure, params)
        ascent = [d if gr is None else g["lam"] * gr + d for d, gr, g in zip(noise, grads, setting)]
        norm = torch.stack([a.norm() for a in ascent]).norm() + 1e-12
        with moved(params, [g["rho"] * a / norm for a, g in zip(ascent, setting)]):
            _, grads = self._gradients(closure, params)
        with torch.no_grad():
            for p, gr, g in zip(params, grads, setting):
                if gr is None:
                    continue
                v = self.state[p].setdefault("v", torch.zeros_like(p))
                v.mul_(g["mu"]).add_(gr).add_(p, alpha=g["wd"])
                p.add_(v, alpha=-g["lr"])
        return loss
