import torch


class _Smoothed(torch.optim.SGD):
    def setup(self, radius, noise_std, gamma, warmup=5):
        self.radius, self.noise_std, self.gamma, self.warmup = radius, noise_std, gamma, warmup
        self.param_groups[0]["t"] = 0
        return self

    @torch.no_grad()
    def step(self, closure):
        run = torch.enable_grad()(closure)
        ps = sum((g["params"] for g in self.param_groups), [])
        w = [p.detach().clone() for p in ps]
        self.param_groups[0]["t"] += 1
        radius = self.radius * min(1.0, self.param_groups[0]["t"] / self.warmup)

        delta = []
        for p in ps:
            s = p.norm() if p.dim() < 2 else p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True)
            delta.append(torch.randn_like(p) * s * self.noise_std)
        for p, d in zip(ps, delta):
            p.add_(d)
        self.zero_grad()
        loss = run()

        v = [d if p.grad is None else d + p.grad / self.gamma for p, d in zip(ps, delta)]
        n = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in v])) + 1e-12
        for p, p0, t in zip(ps, w, v):
            p.copy_(p0 + radius * t / n)
        self.zero_grad()
        run()
        for p, p0 in zip(ps, w):
            p.copy_(p0)
        super().step()
        return loss


def make(params, hyper):
    opt = _Smoothed(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return opt.setup(radius=hyper.rho, noise_std=hyper.sigma, gamma=hyper.lam)
