import torch
from torch import Tensor


def weight_norm_of(p: Tensor) -> Tensor:
    if p.ndim == 2:
        return p.norm(dim=1, keepdim=True)
    return p.norm() + 1e-16


class RandomSAM(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1, momentum: float = 0.0, weight_decay: float = 0.0,
                 rho: float = 0.05, sigma: float = 0.01, lam: float = 1.0) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)
        self.defaults.update(rho=rho, sigma=sigma, lam=lam)
        for group in self.param_groups:
            for key in ("rho", "sigma", "lam"):
                group.setdefault(key, self.defaults[key])

    @torch.no_grad()
    def step(self, closure):
        w: list[Tensor] = []
        d: list[Tensor] = []
        for group in self.param_groups:
            for p in group["params"]:
                w.append(p.clone())
                d.append(torch.randn_like(p) * weight_norm_of(p) * group["sigma"])
                p += d[-1]
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        i = 0
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    d[i] += group["lam"] * p.grad
                i += 1
        norm = torch.stack([v.norm() for v in d]).norm() + 1e-12
        i = 0
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(w[i] + d[i] * group["rho"] / norm)
                i += 1
        self.zero_grad()
        with torch.enable_grad():
            closure()
        i = 0
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(w[i])
                i += 1
        super().step()
        return loss
