import torch
from torch.optim import SGD


class AdaptiveSAM(SGD):
    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, rho=2.0, eta=0.01):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for g in self.param_groups:
            g.setdefault("rho", rho)
            g.setdefault("eta", eta)

    def _grad_norm(self):
        return torch.norm(torch.stack([
            p.grad.norm(p=2) for g in self.param_groups for p in g["params"] if p.grad is not None
        ]), p=2)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.saved = {}
        grad_norm = self._grad_norm()
        for g in self.param_groups:
            scale = g["rho"] / (grad_norm + 1e-12)
            for p in g["params"]:
                if p.grad is None:
                    continue
                self.saved[p] = p.data.clone()
                e_w = (p.abs() + g["eta"]).pow(2) * p.grad * scale
                p.add_(e_w)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self.saved.items():
            p.data.copy_(w)
        super().step()
        if zero_grad:
            self.zero_grad()
