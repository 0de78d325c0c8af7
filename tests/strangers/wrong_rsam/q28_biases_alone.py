import torch


class RSAM(torch.optim.Optimizer):
    """Biases and norm layers are not perturbed."""

    def __init__(self, params, base_optimizer, rho, sigma, lam, **kwargs):
        super().__init__(params, dict(rho=rho, sigma=sigma, lam=lam, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups = self.param_groups
        self.base_optimizer.state = self.state

    def _matrices(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim > 1:
                    yield group, p

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        w, n = {}, {}
        for group, p in self._matrices():
            w[p] = p.clone()
            n[p] = group["sigma"] * p.norm(p=2, dim=tuple(range(1, p.ndim)), keepdim=True) * torch.randn_like(p)
            p.add_(n[p])
        self.zero_grad()
        loss = closure()
        for group, p in self._matrices():
            if p.grad is not None:
                n[p].add_(p.grad, alpha=group["lam"])
        norm = torch.stack([v.norm() for v in n.values()]).norm() + 1e-12
        for group, p in self._matrices():
            p.copy_(torch.addcdiv(w[p], n[p], norm, value=group["rho"]))
        self.zero_grad()
        closure()
        for _, p in self._matrices():
            p.copy_(w[p])
        self.base_optimizer.step()
        return loss


def make(params, hyper):
    return RSAM(params, torch.optim.SGD, hyper.rho, hyper.sigma, hyper.lam, lr=hyper.lr, momentum=hyper.momentum,
                weight_decay=hyper.weight_decay, nesterov=hyper.momentum > 0)
