import torch


def filter_norm(p):
    """Norm of every output unit, shaped to broadcast; a vector is one unit."""
    if p.dim() <= 1:
        return p.norm() + 1e-16
    return p.reshape(p.shape[0], -1).norm(dim=1).reshape([-1] + [1] * (p.dim() - 1))


class RSAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.1, sigma=1e-3, lam=1.0, **kwargs):
        super().__init__(params, dict(rho=rho, sigma=sigma, lam=lam, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def load_state_dict(self, sd):
        super().load_state_dict(sd)
        self.base_optimizer.state, self.base_optimizer.param_groups = self.state, self.param_groups

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        work = [(g, p) for g in self.param_groups for p in g["params"] if p.requires_grad]
        old, noise = {}, {}
        for g, p in work:
            old[p] = p.clone()
            noise[p] = torch.randn_like(p) * filter_norm(p) * g["sigma"]
            p.add_(noise[p])

        self.zero_grad()
        loss = closure()

        direction = {p: noise[p] if p.grad is None else g["lam"] * p.grad + noise[p] for g, p in work}
        norm = torch.stack([a.norm() for a in direction.values()]).norm()
        for g, p in work:
            p.copy_(old[p] + g["rho"] * direction[p] / (norm + 1e-12))

        self.zero_grad()
        closure()
        for _, p in work:
            p.copy_(old[p])
        self.base_optimizer.step()
        return loss
