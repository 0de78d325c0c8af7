import torch
from torch.optim import SGD


class SAMSGD(SGD):
    """Drop-in for torch.optim.SGD: ``opt.step(closure)``, where closure does zero_grad and backward."""

    def __init__(self, params, lr=1e-3, momentum=0, weight_decay=0, rho=0.05):
        if rho < 0:
            raise ValueError(f"invalid rho: {rho}")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.defaults["rho"] = rho
        for g in self.param_groups:
            g.setdefault("rho", rho)

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        loss = closure().detach()
        moved, sq = [], 0.0
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is None:
                    continue
                d_p = p.grad.clone()
                if g["weight_decay"] != 0:
                    d_p.add_(p, alpha=g["weight_decay"])
                sq = sq + d_p.norm() ** 2
                moved.append((p, p.clone(), d_p, g["rho"]))
        norm = sq ** 0.5
        for p, _, d_p, rho in moved:
            p.add_(d_p * rho / (norm + 1e-12))
        closure()
        for p, w, _, _ in moved:
            p.copy_(w)
        super().step()
        return loss
