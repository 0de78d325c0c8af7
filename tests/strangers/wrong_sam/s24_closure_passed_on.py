import torch


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_cls=torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__(params, dict(rho=rho))
        self.base = base_cls(self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.param_groups = self.base.param_groups
        self.state = self.base.state

    @torch.no_grad()
    def climb(self):
        ps = [(g["rho"], p) for g in self.param_groups for p in g["params"] if p.grad is not None]
        n = torch.stack([p.grad.norm() for _, p in ps]).norm() if ps else 0.0
        old = {}
        for rho, p in ps:
            old[p] = p.clone()
            p += rho / (n + 1e-12) * p.grad
        return old

    @torch.no_grad()
    def descend(self, old):
        for p, w in old.items():
            p.copy_(w)

    def step(self, closure):
        """``closure``: zero_grad, forward, backward, return the loss."""
        loss = closure()
        old = self.climb()
        closure()
        self.descend(old)
        self.base.step(closure)
        return loss

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, d):
        self.base.load_state_dict(d)
        self.param_groups, self.state = self.base.param_groups, self.base.state
