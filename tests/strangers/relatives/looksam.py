import torch
from torch.optim.optimizer import Optimizer


class LookSAM(Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05, k=5, alpha=0.7):
        if k < 1:
            raise ValueError("k must be at least 1")
        super().__init__(
            params,
            dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, k=k, alpha=alpha, n_steps=0),
        )

    def _gradients(self, closure, params):
        with torch.enable_grad():
            loss = closure()
            grads = torch.autograd.grad(loss, params, allow_unused=True)
        return loss.detach(), list(grads)

    @staticmethod
    def _inner(a, b):
        return sum(
            torch.dot(x.double().flatten(), y.double().flatten()).item()
            for x, y in zip(a, b)
            if x is not None and y is not None
        )

    def step(self, closure):
        groups = [g for g in self.param_groups for p in g["params"] if p.requires_grad]
        params = [p for g in self.param_groups for p in g["params"] if p.requires_grad]
        head = self.param_groups[0]
        loss, g0 = self._gradients(closure, params)
        norm = self._inner(g0, g0) ** 0.5

        with torch.no_grad():
            if head["n_steps"] % head["k"] == 0:
                update = self._sam(closure, params, groups, g0, norm)
            else:
                update = self._reuse(params, groups, g0, norm)
            for group, p, u in zip(groups, params, update):
                if u is not None:
                    self._apply(group, p, u)
        head["n_steps"] += 1
        return loss

    def _sam(self, closure, params, groups, g0, norm):
        backup = [p.clone() for p in params]
        for group, p, g in zip(groups, params, g0):
            if g is not None:
                p.add_(g * (group["rho"] / (norm + 1e-12)))
        _, g1 = self._gradients(closure, params)
        for p, b in zip(params, backup):
            p.copy_(b)
        cos = self._inner(g1, g0) / norm**2 if norm > 0 else 0.0
        for p, a, b in zip(params, g0, g1):
            if b is None:
                self.state[p].pop("v", None)
            else:
                self.state[p]["v"] = b.clone() if a is None else b - cos * a
        return g1

    def _reuse(self, params, groups, g0, norm):
        v = [self.state[p].get("v") for p in params]
        v_norm = self._inner(v, v) ** 0.5
        out = []
        for group, g, d in zip(groups, g0, v):
            if g is not None and d is not None and v_norm > 0:
                g = g + d * (group["alpha"] * norm / v_norm)
            out.append(g)
        return out

    def _apply(self, group, p, d):
        d = d.add(p, alpha=group["weight_decay"])
        if group["momentum"] > 0:
            state = self.state[p]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = d
            else:
                state["momentum_buffer"] = group["momentum"] * state["momentum_buffer"] + d
            d = state["momentum_buffer"]
        p.add_(d, alpha=-group["lr"])
