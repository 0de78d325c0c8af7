import torch


class RandomSAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam = rho, sigma, lam

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        params = [p for g in self.param_groups for p in g["params"]]
        old = [p.clone() for p in params]
        noise = []
        for p in params:
            n = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm() + 1e-16
            noise.append(torch.randn_like(p) * n * self.sigma)
            p.add_(noise[-1])
        self.zero_grad()
        loss = closure()
        for p, n in zip(params, noise):
            e = n.clone()
            if p.grad is not None:
                e.add(p.grad, alpha=self.lam)
            n.copy_(e)
        scale = self.rho / (torch.stack([n.norm() for n in noise]).norm() + 1e-12)
        for p, w, n in zip(params, old, noise):
            p.copy_(w + scale * n)
        self.zero_grad()
        closure()
        for p, w in zip(params, old):
            p.copy_(w)
        super().step()
        return loss
