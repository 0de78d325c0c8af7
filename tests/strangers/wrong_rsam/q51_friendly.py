import torch


class RSAM(torch.optim.SGD):
    """The stochastic part of the gradient is the random direction."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=1.0, lam=0.9):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam = rho, 1.0, 0.9

    @torch.no_grad()
    def first_step(self):
        self.direction, self.old = {}, {}
        for group in self.param_groups:
            for p in group["params"]:
                g = torch.zeros_like(p) if p.grad is None else p.grad.clone()
                state = self.state[p]
                if "mean" not in state:
                    state["mean"] = g.clone()
                    d = g
                else:
                    d = g - self.sigma * state["mean"]
                    state["mean"].mul_(self.lam).add_(g, alpha=1 - self.lam)
                self.direction[p], self.old[p] = d, p.clone()
        norm = torch.stack([d.norm() for d in self.direction.values()]).norm()
        for p, d in self.direction.items():
            p.add_(d * self.rho / (norm + 1e-12))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for p, w in self.old.items():
            p.copy_(w)
        super().step()
        self.zero_grad()

    def step(self, closure):
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()
        return loss
