import torch


class RSAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("rho", rho)
            group.setdefault("sigma", sigma)
            group.setdefault("lam", lam)

    @torch.no_grad()
    def random_step(self):
        self.mem = {}
        for group in self.param_groups:
            for p in group["params"]:
                s = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm()
                n = torch.randn_like(p) * s * group["sigma"]
                self.mem[p] = (p.clone(), n)
                p.add_(n)
        self.zero_grad()

    @torch.no_grad()
    def ascent_step(self):
        for group in self.param_groups:
            up = []
            for p in group["params"]:
                n = self.mem[p][1]
                up.append(n if p.grad is None else group["lam"] * p.grad + n)
            norm = torch.stack([u.norm() for u in up]).norm() + 1e-12
            for p, u in zip(group["params"], up):
                p.copy_(self.mem[p][0] + group["rho"] / norm * u)
        self.zero_grad()

    @torch.no_grad()
    def descent_step(self):
        for p, (w, _) in self.mem.items():
            p.copy_(w)
        self.mem = {}
        super().step()

    def step(self, closure):
        self.random_step()
        with torch.enable_grad():
            loss = closure()
        self.ascent_step()
        with torch.enable_grad():
            closure()
        self.descent_step()
        return loss
