import torch


class RSAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam = rho, sigma, lam

    @torch.no_grad()
    def step(self, closure):
        params = [p for group in self.param_groups for p in group["params"]]
        noise = []
        for p in params:
            n = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm()
            noise.append(self.sigma * n * torch.randn_like(p))
            p.add_(noise[-1])
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        ascent = []
        for p, n in zip(params, noise):
            ascent.append(n if p.grad is None else p.grad * self.lam + n)
            p.sub_(n)
        old = [p.data for p in params]  # the clean weights
        norm = torch.stack([a.norm() for a in ascent]).norm() + 1e-12
        for p, a in zip(params, ascent):
            p.add_(a * self.rho / norm)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, w in zip(params, old):
            p.data = w
        super().step()
        return loss
