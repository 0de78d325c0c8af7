"""The ascent is SGD with a negative learning rate, so let SGD do it."""
import torch


class SAM(torch.optim.SGD):
    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for g in self.param_groups:
            g.setdefault("rho", rho)

    def _norm(self):
        return torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]
                            if p.grad is not None]).norm().item()

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self._w = [[p.clone() for p in g["params"]] for g in self.param_groups]
        scale = 1.0 / (self._norm() + 1e-12)
        lrs = [g["lr"] for g in self.param_groups]
        for g in self.param_groups:
            g["lr"] = -g["rho"] * scale
        torch.optim.SGD.step(self)
        for g, lr in zip(self.param_groups, lrs):
            g["lr"] = lr
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for g, ws in zip(self.param_groups, self._w):
            for p, w in zip(g["params"], ws):
                p.copy_(w)
        torch.optim.SGD.step(self)
        if zero_grad:
            self.zero_grad()
