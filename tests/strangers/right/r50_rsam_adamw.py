import torch


class RSAMAdamW(torch.optim.AdamW):
    def __init__(self, params, lr=1e-3, weight_decay=1e-2, rho=0.05, sigma=1e-3, lam=1.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        for g in self.param_groups:
            g.setdefault("rho", rho), g.setdefault("sigma", sigma), g.setdefault("lam", lam)

    @torch.no_grad()
    def _draw(self, p, sigma):
        if p.ndim > 1:
            s = torch.linalg.vector_norm(p, dim=list(range(1, p.ndim)), keepdim=True)
        else:
            s = torch.linalg.vector_norm(p)
        return torch.randn_like(p).mul_(sigma).mul_(s)

    @torch.no_grad()
    def step(self, closure):
        rows = []
        for g in self.param_groups:
            for p in g["params"]:
                d = self._draw(p, g["sigma"])
                rows.append((p, p.clone(), d, g))
                p.add_(d)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        a = [d if p.grad is None else d + g["lam"] * p.grad for p, _, d, g in rows]
        n = torch.stack([x.norm() for x in a]).norm() + 1e-12
        for (p, w, _, g), x in zip(rows, a):
            p.copy_(torch.add(w, x / n, alpha=g["rho"]))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, w, _, _ in rows:
            p.copy_(w)
        super().step()
        return loss
