import torch
from torch.optim.optimizer import Optimizer


class RSAM(Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.1, sigma=1e-3, lam=1.0):
        defaults = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, sigma=sigma, lam=lam)
        super().__init__(params, defaults)

    def _collect(self, key):
        return [float(g[key]) for g in self.param_groups for _ in g["params"]]

    @torch.no_grad()
    def step(self, closure):
        ps = [p for g in self.param_groups for p in g["params"]]
        rho, sigma, lam = self._collect("rho"), self._collect("sigma"), self._collect("lam")
        w = [p.clone() for p in ps]

        rows = [p.view(p.size(0), -1) if p.dim() > 1 else p.view(1, -1) for p in w]
        draws = [torch.randn_like(r) for r in rows]
        torch._foreach_mul_(draws, [r.norm(dim=1, keepdim=True) for r in rows])
        torch._foreach_mul_(draws, sigma)
        draws = [d.view_as(p) for d, p in zip(draws, ps)]
        torch._foreach_add_(ps, draws)

        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        a = [torch.zeros_like(p) if p.grad is None else p.grad for p in ps]
        a = torch._foreach_add(torch._foreach_mul(a, lam), draws)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(a)))
        torch._foreach_copy_(ps, w)
        torch._foreach_add_(ps, torch._foreach_mul(a, [r / (norm.item() + 1e-12) for r in rho]))

        self.zero_grad()
        with torch.enable_grad():
            closure()
        torch._foreach_copy_(ps, w)

        for g in self.param_groups:
            live = [p for p in g["params"] if p.grad is not None]
            if not live:
                continue
            grads = torch._foreach_add([p.grad for p in live], live, alpha=g["weight_decay"])
            bufs = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in live]
            torch._foreach_mul_(bufs, g["momentum"])
            torch._foreach_add_(bufs, grads)
            torch._foreach_add_(live, bufs, alpha=-g["lr"])
        return loss
