import torch


class RSAM(torch.optim.SGD):
    """R-SAM with reproducible noise."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0, seed=42):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam, self.seed = rho, sigma, lam, seed

    @torch.no_grad()
    def get_noise(self):
        torch.manual_seed(self.seed)
        noise = {}
        for group in self.param_groups:
            for p in group["params"]:
                n = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm()
                noise[p] = torch.randn_like(p) * n * self.sigma
        return noise

    @torch.no_grad()
    def step(self, closure):
        noise = self.get_noise()
        w = {p: p.clone() for p in noise}
        for p, n in noise.items():
            p.add_(n)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        a = {p: n + self.lam * p.grad if p.grad is not None else n for p, n in noise.items()}
        norm = torch.stack([v.norm() for v in a.values()]).norm() + 1e-12
        for p, v in a.items():
            p.copy_(w[p] + self.rho * v / norm)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, v in w.items():
            p.copy_(v)
        super().step()
        return loss
