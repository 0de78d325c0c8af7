import torch


class AntitheticRSAM(torch.optim.Optimizer):
    """Draws in pairs z, -z over two consecutive steps to lower the variance."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, sigma=sigma, lam=lam))

    @torch.no_grad()
    def step(self, closure):
        acc = []
        work = []
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "z" in state:
                    z = -state.pop("z")
                else:
                    z = state["z"] = torch.randn_like(p)
                s = p.flatten(1).norm(dim=1).view(-1, *[1] * (p.dim() - 1)) if p.dim() > 1 else p.norm()
                work.append([group, p, p.clone(), group["sigma"] * s * z])
        for group, p, w, d in work:
            p.add_(d)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        for item in work:
            group, p, w, d = item
            if p.grad is not None:
                item[3] = d + group["lam"] * p.grad
            acc.append(item[3].norm())
        norm = torch.stack(acc).norm() + 1e-12
        for group, p, w, a in work:
            p.copy_(w + group["rho"] * a / norm)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for group, p, w, a in work:
            p.copy_(w)
            if p.grad is None:
                continue
            g = p.grad + group["weight_decay"] * p
            state = self.state[p]
            state["buf"] = group["momentum"] * state["buf"] + g if "buf" in state else g.clone()
            p.add_(state["buf"], alpha=-group["lr"])
        return loss
