import torch


class VarianceReducedRSAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0, theta=0.4):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for g in self.param_groups:
            for k, v in (("rho", rho), ("sigma", sigma), ("lam", lam), ("theta", theta)):
                g.setdefault(k, v)

    @torch.no_grad()
    def step(self, closure):
        w, noise, direction = {}, {}, {}
        for group in self.param_groups:
            for p in group["params"]:
                w[p] = p.clone()
                s = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm() + 1e-16
                noise[p] = group["sigma"] * s * torch.randn_like(p)
                p.add_(noise[p])
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                g = torch.zeros_like(p) if p.grad is None else p.grad
                state = self.state[p]
                if "slow" not in state:
                    state["slow"] = g.clone()
                else:
                    state["slow"].lerp_(g, group["theta"])
                direction[p] = group["lam"] * state["slow"] + noise[p]
        norm = torch.stack([d.norm() for d in direction.values()]).norm() + 1e-12
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(w[p] + group["rho"] / norm * direction[p])
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, p0 in w.items():
            p.copy_(p0)
        super().step()
        return loss
