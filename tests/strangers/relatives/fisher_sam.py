import math

import torch


class FisherSAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, rho=0.1, eta=1.0, momentum=0.0, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, rho=rho, eta=eta, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def perturb(self):
        natural, length = [], 0.0
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = p.grad if p.grad.dtype == torch.float64 else p.grad.float()
                n = g / (1 + group["eta"] * g * g)
                length += (g.double() * n.double()).sum().item()
                natural.append((group, p, n))
        length = math.sqrt(length) + 1e-12
        self._origin = []
        for group, p, n in natural:
            self._origin.append((p, p.clone(memory_format=torch.preserve_format)))
            p.add_((n * (group["rho"] / length)).to(p.dtype))

    @torch.no_grad()
    def restore(self):
        for p, w in self._origin:
            p.copy_(w)
        self._origin = []

    @torch.no_grad()
    def descend(self):
        for group in self.param_groups:
            lr, mu, wd = group["lr"], group["momentum"], group["weight_decay"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                d = p.grad + wd * p if wd else p.grad.clone()
                if mu:
                    st = self.state[p]
                    if len(st) == 0:
                        st["m"] = d
                    else:
                        st["m"].mul_(mu).add_(d)
                    d = st["m"]
                p.add_(d, alpha=-lr)

    def step(self, closure):
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        self.perturb()
        self.zero_grad()
        with torch.enable_grad():
            closure()
        self.restore()
        self.descend()
        return loss
