import torch


class SAM(torch.optim.SGD):
    """Use: loss.backward(); optimizer.step(closure); optimizer.zero_grad().

    The gradients that lie in .grad when step is called are the first pass's.
    """

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("rho", rho)

    @torch.no_grad()
    def step(self, closure=None):
        if closure is None:
            raise RuntimeError("SAM: give a closure for the second pass")
        live = [(g, p) for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.sqrt(sum((p.grad.pow(2).sum() for _, p in live), torch.tensor(0.0, dtype=torch.float64)))
        old = []
        for g, p in live:
            old.append((p, p.clone()))
            p.add_(p.grad * (g["rho"] / (norm.item() + 1e-12)))
        self.zero_grad(set_to_none=True)
        with torch.enable_grad():
            loss = closure()
        for p, before in old:
            p.copy_(before)
        super().step()
        return loss
