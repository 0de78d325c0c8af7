import torch
from torch.nn.init import trunc_normal_


class RSAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        defaults = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, sigma=sigma, lam=lam)
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure):
        todo = []
        for group in self.param_groups:
            for p in group["params"]:
                z = trunc_normal_(torch.empty_like(p), mean=0.0, std=1.0, a=-1.0, b=1.0)
                s = p.norm() if p.ndim == 1 else p.flatten(1).norm(dim=1).view(-1, *(p.ndim - 1) * (1,))
                todo.append((group, p, p.clone(), z.mul_(s).mul_(group["sigma"])))
                p.add_(z)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        sq = 0
        for group, p, w, d in todo:
            if p.grad is not None:
                d.add_(p.grad, alpha=group["lam"])
            sq = sq + d.square().sum()
        for group, p, w, d in todo:
            p.copy_(w - group["rho"] * d / (sq.sqrt() + 1e-12))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for group, p, w, d in todo:
            p.copy_(w)
            if p.grad is not None:
                g = p.grad + group["weight_decay"] * w
                st = self.state[p]
                st["v"] = group["momentum"] * st["v"] + g if "v" in st else g
                p.sub_(st["v"], alpha=group["lr"])
        return loss
