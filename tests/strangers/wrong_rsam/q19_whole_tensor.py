import torch


class RSAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, sigma=sigma, lam=lam))

    @torch.no_grad()
    def _add_noise(self):
        for group in self.param_groups:
            for p in group["params"]:
                st = self.state[p]
                st["w"] = p.clone()
                st["noise"] = torch.randn_like(p) * (group["sigma"] * p.norm())
                p.add_(st["noise"])

    @torch.no_grad()
    def _climb(self):
        total = 0.0
        for group in self.param_groups:
            for p in group["params"]:
                v = self.state[p]["noise"]
                if p.grad is not None:
                    v.add_(p.grad, alpha=group["lam"])
                total += v.pow(2).sum()
        norm = total.sqrt() + 1e-12
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["w"] + group["rho"] * self.state[p].pop("noise") / norm)

    @torch.no_grad()
    def _descend(self):
        for group in self.param_groups:
            for p in group["params"]:
                st = self.state[p]
                p.copy_(st.pop("w"))
                if p.grad is None:
                    continue
                g = p.grad + group["weight_decay"] * p
                buf = st.get("buf")
                st["buf"] = g if buf is None else group["momentum"] * buf + g
                p.sub_(group["lr"] * st["buf"])

    def step(self, closure):
        self._add_noise()
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        self._climb()
        self.zero_grad()
        with torch.enable_grad():
            closure()
        self._descend()
        return loss
