import torch
from torch.optim import SGD


class ASAM(SGD):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.5, eta=0.01):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.T = {}
        for g in self.param_groups:
            g.setdefault("rho", rho)
            for p in g["params"]:
                self.T[p] = p.detach().abs().clone() + eta

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            self.zero_grad()
            loss = closure()
        ps = [(g, p) for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.stack([(self.T[p] * p.grad).norm() for _, p in ps]).norm() + 1e-12
        old = {}
        for g, p in ps:
            old[p] = p.clone()
            p.add_(self.T[p] ** 2 * p.grad, alpha=float(g["rho"] / norm))
        with torch.enable_grad():
            self.zero_grad()
            closure()
        for p, w in old.items():
            p.copy_(w)
        super().step()
        return loss
