import torch
from torch.optim import Optimizer


class Lion(Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                update = m.mul(b1).add(p.grad, alpha=1 - b1).sign_()
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
                m.mul_(b2).add_(p.grad, alpha=1 - b2)


class LionSAM:
    def __init__(self, params, lr=1e-4, rho=0.05, weight_decay=0.0):
        self.lion = Lion(params, lr=lr, weight_decay=weight_decay)
        self.rho = rho

    param_groups = property(lambda self: self.lion.param_groups)
    state = property(lambda self: self.lion.state)

    @torch.no_grad()
    def step(self, closure):
        params = [(g.get("rho", self.rho), p) for g in self.lion.param_groups for p in g["params"]]
        self.lion.zero_grad()
        with torch.enable_grad():
            loss = closure()
        backup = [p.clone() for _, p in params]
        sq = sum((p.grad.square().sum() for _, p in params if p.grad is not None), start=torch.tensor(0.0))
        for rho, p in params:
            if p.grad is not None:
                p += rho * p.grad / (sq.sqrt() + 1e-12)
        self.lion.zero_grad()
        with torch.enable_grad():
            closure()
        for (_, p), b in zip(params, backup):
            p.copy_(b)
        self.lion.step()
        return loss

    def zero_grad(self, set_to_none=True):
        self.lion.zero_grad(set_to_none)

    def state_dict(self):
        return self.lion.state_dict()

    def load_state_dict(self, sd):
        self.lion.load_state_dict(sd)
