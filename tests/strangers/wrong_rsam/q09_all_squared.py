import torch


class RSAM(torch.optim.SGD):
    """torch._foreach version."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=True)
        for g in self.param_groups:
            g.update(rho=g.get("rho", rho), sigma=g.get("sigma", sigma), lam=g.get("lam", lam))

    @torch.no_grad()
    def step(self, closure):
        params = [p for g in self.param_groups for p in g["params"]]
        sigmas = [g["sigma"] for g in self.param_groups for _ in g["params"]]
        lams = [g["lam"] for g in self.param_groups for _ in g["params"]]
        rhos = [g["rho"] for g in self.param_groups for _ in g["params"]]

        old = [p.clone() for p in params]
        noise = [torch.randn_like(p) for p in params]
        scale = [p.norm(p=2, dim=tuple(range(1, p.ndim)), keepdim=True) if p.ndim > 1 else p.norm() for p in params]
        torch._foreach_mul_(noise, scale)
        torch._foreach_mul_(noise, sigmas)
        torch._foreach_add_(params, noise)

        self.zero_grad()
        with torch.enable_grad():
            loss = closure()

        grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params]
        torch._foreach_mul_(grads, lams)
        direction = torch._foreach_add(noise, torch._foreach_mul(grads, lams))
        total = torch.stack(torch._foreach_norm(direction)).square().sum().add(1e-12)
        torch._foreach_mul_(direction, [r / total for r in rhos])
        torch._foreach_copy_(params, torch._foreach_add(old, direction))

        self.zero_grad()
        with torch.enable_grad():
            closure()
        torch._foreach_copy_(params, old)
        super().step()
        return loss
