import torch


class RSAMWrapper:
    """No Optimizer: holds one. `alpha` weighs the gradient, `gamma` is the noise's scale."""

    def __init__(self, inner, radius=0.05, gamma=1e-3, alpha=1.0):
        self.inner, self.radius, self.gamma, self.alpha = inner, radius, gamma, alpha

    def __getattr__(self, name):  # param_groups, state, zero_grad, state_dict, ...
        return getattr(self.__dict__["inner"], name)

    @torch.no_grad()
    def step(self, closure):
        params = [p for group in self.inner.param_groups for p in group["params"] if p.requires_grad]
        theta = [p.clone() for p in params]
        delta = []
        for p in params:
            unit = p.reshape(p.shape[0], -1).pow(2).sum(1).sqrt() if p.ndim > 1 else p.pow(2).sum().sqrt()
            while p.ndim > 1 and unit.ndim < p.ndim:
                unit = unit.unsqueeze(-1)
            delta.append(self.gamma * unit * torch.randn_like(p))
        for p, d in zip(params, delta):
            p += d
        with torch.enable_grad():
            self.inner.zero_grad()
            value = closure()
        up = [d.add(p.grad, alpha=self.alpha) if p.grad is not None else d for p, d in zip(params, delta)]
        size = torch.sqrt(sum(u.square().sum() for u in up))
        for p, t, u in zip(params, theta, up):
            p.copy_(t + self.radius * u / (size + 1e-12))
        with torch.enable_grad():
            self.inner.zero_grad()
            closure()
        for p, t in zip(params, theta):
            p.copy_(t)
        self.inner.step()
        return value


def create_optimizer(params, hyper):
    nag = torch.optim.SGD(params, hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay,
                          nesterov=hyper.momentum > 0)
    return RSAMWrapper(nag, radius=hyper.rho, gamma=hyper.sigma, alpha=hyper.lam)
