import torch


class LazyRSAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0, noise_every=2):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for g in self.param_groups:
            for k, v in dict(rho=rho, sigma=sigma, lam=lam, noise_every=noise_every, count=0).items():
                g.setdefault(k, v)

    def _noise(self, p, g):
        if g["count"] % g["noise_every"]:
            return torch.zeros_like(p)
        n = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm() + 1e-16
        return torch.randn_like(p) * n * g["sigma"]

    @torch.no_grad()
    def step(self, closure):
        w = [[p.clone() for p in g["params"]] for g in self.param_groups]
        noise = [[self._noise(p, g) for p in g["params"]] for g in self.param_groups]
        for g, ns in zip(self.param_groups, noise):
            g["count"] += 1
            torch._foreach_add_(g["params"], ns)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        for g, ns in zip(self.param_groups, noise):
            for p, n in zip(g["params"], ns):
                if p.grad is not None:
                    n.add_(p.grad, alpha=g["lam"])
        norm = torch.stack([n.norm() for ns in noise for n in ns]).norm() + 1e-12
        for g, ws, ns in zip(self.param_groups, w, noise):
            for p, p0, n in zip(g["params"], ws, ns):
                p.copy_(p0 + n * g["rho"] / norm)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for g, ws in zip(self.param_groups, w):
            torch._foreach_copy_(g["params"], ws)
        super().step()
        return loss
