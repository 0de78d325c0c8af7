import torch


class BayesianSAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, rho=0.01, n=1000, delta=0.025, gamma=0.1, beta1=0.9, beta2=0.999):
        super().__init__(
            params,
            dict(lr=lr, rho=rho, n=n, delta=delta, gamma=gamma, beta1=beta1, beta2=beta2),
        )

    def _iter(self):
        for group in self.param_groups:
            for p in group["params"]:
                if not p.requires_grad:
                    continue
                state = self.state[p]
                if "s" not in state:
                    state["s"] = torch.ones_like(p, memory_format=torch.preserve_format)
                    state["m"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                yield group, p, state

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        items = list(self._iter())
        mean = [p.clone() for _, p, _ in items]

        for group, p, state in items:
            p.add_(torch.randn_like(p) / (group["n"] * state["s"]).sqrt())
        self.zero_grad()
        loss = closure()
        g_noisy = [p.grad for _, p, _ in items]

        for (group, p, state), w, g in zip(items, mean, g_noisy):
            p.copy_(w)
            if g is not None:
                p.add_(g / state["s"], alpha=group["rho"])
        self.zero_grad(set_to_none=True)
        closure()

        for (group, p, state), w, g0 in zip(items, mean, g_noisy):
            p.copy_(w)
            if p.grad is None:
                continue
            m, s = state["m"], state["s"]
            m.lerp_(p.grad + group["delta"] * p, 1 - group["beta1"])
            p.addcdiv_(m, s, value=-group["lr"])
            abs_g = torch.zeros_like(p) if g0 is None else g0.abs()
            target = s.sqrt() * abs_g + group["delta"] + group["gamma"]
            s.mul_(group["beta2"]).add_(target, alpha=1 - group["beta2"])
        return loss
