import torch


def _with_grad(groups):
    return [(g, p) for g in groups for p in g["params"] if p.grad is not None]


class CoupledWSAM(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, rho=0.05, gamma=0.9):
        super().__init__(
            params,
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "rho": rho, "gamma": gamma},
        )

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            self.zero_grad()
            loss = closure()

        pairs = _with_grad(self.param_groups)
        clean = {p: p.grad.detach().clone() for _, p in pairs}
        weights = {p: p.detach().clone() for _, p in pairs}
        norm = sum(g.double().pow(2).sum().item() for g in clean.values()) ** 0.5
        for group, p in pairs:
            p.add_(clean[p] * (group["rho"] / (norm + 1e-12)))

        with torch.enable_grad():
            self.zero_grad()
            closure()
        for p, w in weights.items():
            p.copy_(w)

        for group, p in _with_grad(self.param_groups):
            gamma = group["gamma"]
            u = p.grad * (gamma / (1 - gamma))
            if p in clean:
                u = u + clean[p] * ((1 - 2 * gamma) / (1 - gamma))
            self._descend(group, p, u)
        return loss

    def _descend(self, group, p, u):
        if group["weight_decay"] != 0:
            u = u + group["weight_decay"] * p
        if group["momentum"] != 0:
            buf = self.state[p].get("momentum_buffer")
            if buf is None:
                buf = self.state[p]["momentum_buffer"] = u.clone()
            else:
                buf.mul_(group["momentum"]).add_(u)
            u = buf
        p.sub_(group["lr"] * u)
