import torch


class CRSAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.1, gamma=0.1, beta=0.01):
        super().__init__(
            params,
            dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, gamma=gamma, beta=beta),
        )

    def _evaluate(self, closure, rng):
        torch.set_rng_state(rng)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        grads = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    grads[p] = p.grad.detach().clone()
        return loss, grads

    @torch.no_grad()
    def step(self, closure):
        rng = torch.get_rng_state()
        loss, g0 = self._evaluate(closure, rng)
        params = list(g0)
        weights = [p.clone() for p in params]
        rho = {p: group["rho"] for group in self.param_groups for p in group["params"]}
        norm = sum(g.double().square().sum() for g in g0.values())
        norm = float(norm) ** 0.5 + 1e-12
        shift = [g0[p] * (rho[p] / norm) for p in params]

        torch._foreach_add_(params, shift) if params else None
        _, up = self._evaluate(closure, rng)
        if params:
            torch._foreach_copy_(params, weights)
            torch._foreach_sub_(params, shift)
        _, down = self._evaluate(closure, rng)
        if params:
            torch._foreach_copy_(params, weights)

        for group in self.param_groups:
            for p in group["params"]:
                if p not in up:
                    continue
                plus = up[p]
                minus = down.get(p, torch.zeros_like(p))
                mid = g0.get(p, torch.zeros_like(p))
                u = plus + group["gamma"] * (plus + minus - 2 * mid) + group["beta"] * (plus - minus)
                self._update(p, u, group)
        return loss

    def _update(self, p, u, group):
        if group["weight_decay"] != 0:
            u = u.add(p, alpha=group["weight_decay"])
        if group["momentum"] != 0:
            state = self.state[p]
            state["buf"] = state["buf"] * group["momentum"] + u if "buf" in state else u
            u = state["buf"]
        p.add_(u, alpha=-group["lr"])
