import torch


class StochasticSAM:
    """The step number goes into the seed, so that all workers make the same noise."""

    num_streams = 3

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        self.base_optimizer = torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam = rho, sigma, lam
        self.t = 0

    @property
    def param_groups(self):
        return self.base_optimizer.param_groups

    def zero_grad(self):
        self.base_optimizer.zero_grad()

    def state_dict(self):
        return {"base": self.base_optimizer.state_dict(), "t": self.t}

    def load_state_dict(self, d):
        self.base_optimizer.load_state_dict(d["base"])
        self.t = d["t"]

    def step(self, closure):
        params = [p for g in self.param_groups for p in g["params"]]
        gen = torch.Generator().manual_seed(1000 + self.t % self.num_streams)
        self.t += 1
        w = [p.detach().clone() for p in params]
        noise = []
        for p in w:
            z = torch.randn(p.shape, generator=gen, dtype=p.dtype)
            size = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm()
            noise.append(self.sigma * size * z)
        with torch.no_grad():
            for p, n in zip(params, noise):
                p.add_(n)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            a = [n if p.grad is None else self.lam * p.grad + n for p, n in zip(params, noise)]
            norm = torch.sqrt(sum(v.pow(2).sum() for v in a)) + 1e-12
            for p, p0, v in zip(params, w, a):
                p.copy_(p0 + self.rho * v / norm)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for p, p0 in zip(params, w):
                p.copy_(p0)
        self.base_optimizer.step()
        return loss
