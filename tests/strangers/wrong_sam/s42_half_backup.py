import torch
from torch.optim import SGD


class SAM(SGD):
    """SAM that keeps the copy of the weights in half the memory."""

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, rho=0.05, backup_dtype=torch.bfloat16):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.backup_dtype = backup_dtype
        for g in self.param_groups:
            g.setdefault("rho", rho)

    @torch.no_grad()
    def ascent_step(self):
        self.copy = {}
        ps = [(p, g["rho"]) for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p, _ in ps]).norm() if ps else 0
        for p, rho in ps:
            self.copy[p] = p.to(self.backup_dtype, copy=True)
            p.add_(p.grad * (rho / (norm + 1e-12)))

    @torch.no_grad()
    def descent_step(self):
        for p, c in self.copy.items():
            p.copy_(c)
        super().step()
