import torch


class SAM(torch.optim.SGD):
    def __init__(self, params, rho: float = 0.05, lr: float = 0.1, momentum: float = 0.0,
                 weight_decay: float = 0.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        [g.setdefault("rho", rho) for g in self.param_groups]

    def with_grad(self):
        return [(g, p) for g in self.param_groups for p in g["params"] if p.grad is not None]

    @torch.no_grad()
    def first_step(self):
        pairs = self.with_grad()
        norm = torch.stack([p.grad.norm() for _, p in pairs]).norm() if pairs else 0.0
        self.olds = []
        for g, p in pairs:
            self.olds.append(p.detach().clone())
            p.add_(g["rho"] / (norm + 1e-12) * p.grad)

    @torch.no_grad()
    def second_step(self):
        for (_, p), old in zip(self.with_grad(), self.olds):
            p.data = old
        super().step()
