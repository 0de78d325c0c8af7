"""Half-price SAM: the ascent needs no backward of its own."""
import torch


class SAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))

    @torch.no_grad()
    def step(self, closure):
        entries = [(g, p) for g in self.param_groups for p in g["params"]]
        known = [(g, p) for g, p in entries if "g" in self.state[p]]
        start = {}
        if known:
            norm = sum(self.state[p]["g"].pow(2).sum() for _, p in known).sqrt()
            for g, p in known:
                start[p] = p.clone()
                p.add_(self.state[p]["g"] * (g["rho"] / (norm + 1e-12)))
        with torch.enable_grad():
            loss = closure()
        for p, w in start.items():
            p.copy_(w)
        for g, p in entries:
            if p.grad is None:
                continue
            st = self.state[p]
            st["g"] = p.grad.clone()
            d = p.grad + g["weight_decay"] * p
            st["v"] = d if "v" not in st else g["momentum"] * st["v"] + d
            p.sub_(g["lr"] * st["v"])
        return loss
