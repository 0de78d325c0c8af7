import math

import torch
from torch.optim.optimizer import Optimizer


class RSAM(Optimizer):
    r"""Random SAM with its own SGD.

    Args:
        sigma: variance of the relative weight noise
    """

    def __init__(self, params, lr=1e-1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        defaults = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, sigma=sigma, lam=lam)
        super(RSAM, self).__init__(params, defaults)

    def _noise(self, p, var):
        if p.dim() > 1:
            n = p.view(p.size(0), -1).norm(2, 1).view(-1, *([1] * (p.dim() - 1)))
        else:
            n = p.norm(2) + 1e-16
        return torch.empty_like(p).normal_(0, math.sqrt(var)).mul_(n)

    @torch.no_grad()
    def step(self, closure=None):
        backup, noise = {}, {}
        for group in self.param_groups:
            for p in group["params"]:
                backup[p] = p.clone()
                noise[p] = self._noise(p, group["sigma"])
                p.add_(noise[p])
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                d = noise[p] if p.grad is None else group["lam"] * p.grad + noise[p]
                p.copy_(backup[p]).add_(d, alpha=group["rho"] / (d.norm(2).item() + 1e-12))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(backup[p])
                if p.grad is None:
                    continue
                d_p = p.grad.add(p, alpha=group["weight_decay"])
                if group["momentum"] != 0:
                    state = self.state[p]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = d_p.clone()
                    else:
                        state["momentum_buffer"].mul_(group["momentum"]).add_(d_p)
                    d_p = state["momentum_buffer"]
                p.add_(d_p, alpha=-group["lr"])
        return loss
