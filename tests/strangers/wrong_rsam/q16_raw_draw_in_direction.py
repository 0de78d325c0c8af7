import torch


class RSAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("rho", rho)
            group.setdefault("sigma", sigma)
            group.setdefault("lam", lam)

    def pairs(self):
        return [(group, p) for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        pairs = self.pairs()
        start = [p.clone() for _, p in pairs]
        eps = [torch.randn_like(p) * group["sigma"] for group, p in pairs]
        for (_, p), e in zip(pairs, eps):
            if p.ndim > 1:
                p.add_(e * p.pow(2).sum(dim=list(range(1, p.ndim)), keepdim=True).sqrt())
            else:
                p.add_(e * p.pow(2).sum().sqrt())
        self.zero_grad()
        loss = closure()
        up = [e if p.grad is None else e + group["lam"] * p.grad for (group, p), e in zip(pairs, eps)]
        n = torch.sqrt(sum(u.pow(2).sum() for u in up)) + 1e-12
        for (group, p), w, u in zip(pairs, start, up):
            p.copy_(w + u * group["rho"] / n)
        self.zero_grad()
        closure()
        for (_, p), w in zip(pairs, start):
            p.copy_(w)
        super().step()
        return loss
