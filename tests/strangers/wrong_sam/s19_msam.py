import torch
from torch.optim import Optimizer


class SAM(Optimizer):
    """One gradient a step: the velocity already points where the loss is going to rise."""

    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))

    @torch.no_grad()
    def step(self, closure):
        w0 = {}
        bufs = [self.state[p]["momentum_buffer"] for g in self.param_groups for p in g["params"]
                if "momentum_buffer" in self.state[p]]
        if bufs:
            norm = torch.cat([b.flatten() for b in bufs]).norm()
            for g in self.param_groups:
                for p in g["params"]:
                    if "momentum_buffer" in self.state[p]:
                        w0[p] = p.clone()
                        p.add_(self.state[p]["momentum_buffer"], alpha=float(g["rho"] / (norm + 1e-12)))
        with torch.enable_grad():
            loss = closure()
        for p, w in w0.items():
            p.copy_(w)
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is None:
                    continue
                d = p.grad.add(p, alpha=g["weight_decay"])
                buf = self.state[p].get("momentum_buffer")
                buf = d.clone() if buf is None else buf.mul_(g["momentum"]).add_(d)
                self.state[p]["momentum_buffer"] = buf
                p.add_(buf, alpha=-g["lr"])
        return loss
