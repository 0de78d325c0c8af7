import torch
from torch.optim import SGD


class WarmSAM(SGD):
    """SAM; closure is zero_grad + forward + backward."""

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, rho=0.05, warmup=1000):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for g in self.param_groups:
            g.setdefault("rho", rho)
        self.warmup = warmup
        self.steps = 0

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        loss = closure()
        self.steps += 1
        ramp = min(1.0, self.steps / self.warmup)
        ws = [(p, p.clone(), p.grad.clone(), g["rho"]) for g in self.param_groups for p in g["params"]
              if p.grad is not None]
        norm = torch.sqrt(sum(d.square().sum() for _, _, d, _ in ws))
        for p, _, d, rho in ws:
            p.add_(d.mul(ramp * rho / (norm + 1e-12)))
        closure()
        for p, w, _, _ in ws:
            p.copy_(w)
        super().step()
        return loss
