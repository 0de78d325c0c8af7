import torch


class RSAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for g in self.param_groups:
            g["rho"] = g.get("rho", rho)
            g["sigma"] = g.get("sigma", sigma)
            g["lam"] = g.get("lam", lam)

    @torch.no_grad()
    def step(self, closure):
        cache = {}
        for g in self.param_groups:
            for p in g["params"]:
                std = (g["sigma"] * (p.norm(p=2, dim=tuple(range(1, p.ndim)), keepdim=True) if p.ndim > 1 else p.norm())).expand_as(p)
                noise = torch.normal(torch.zeros_like(p), std).abs()
                cache[p] = [p.clone(), noise]
                p += noise
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is not None:
                    cache[p][1] = cache[p][1] + g["lam"] * p.grad
        denom = sum(v[1].norm() ** 2 for v in cache.values()).sqrt() + 1e-12
        for g in self.param_groups:
            for p in g["params"]:
                p.data = cache[p][0] + g["rho"] * cache[p][1] / denom
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, (w, _) in cache.items():
            p.data = w
        super().step()
        return loss
