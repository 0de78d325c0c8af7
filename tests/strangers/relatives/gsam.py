import torch


class GSAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.05, alpha=0.4, eps=1e-12, **base_kwargs):
        self.eps = eps
        super().__init__(params, dict(rho=rho, alpha=alpha, **base_kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **base_kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)
        self._old_weights, self._old_grads = {}, {}

    def _all_params(self):
        return (p for group in self.param_groups for p in group["params"])

    @staticmethod
    def _dot(xs, ys):
        return sum((x.double() * y.double()).sum().item() for x, y in zip(xs, ys))

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self._old_weights, self._old_grads = {}, {}
        grads = [p.grad for p in self._all_params() if p.grad is not None]
        norm = self._dot(grads, grads) ** 0.5
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                self._old_weights[p] = p.clone()
                self._old_grads[p] = p.grad.clone()
                p.add_(p.grad * (group["rho"] / (norm + self.eps)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self._old_weights.items():
            p.copy_(w)
        self._decompose()
        self.base_optimizer.step()
        self._old_weights, self._old_grads = {}, {}
        if zero_grad:
            self.zero_grad()

    def _decompose(self):
        live = [p for p in self._all_params() if p.grad is not None]
        g = [p.grad for p in live]
        g0 = [self._old_grads.get(p, torch.zeros_like(p)) for p in live]
        g_sq = self._dot(g, g)
        if g_sq == 0:
            return
        coef = self._dot(g0, g) / g_sq
        alpha = {p: group["alpha"] for group in self.param_groups for p in group["params"]}
        for p, a, b in zip(live, g0, g):
            p.grad = b - alpha[p] * (a - coef * b)

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        self.first_step(zero_grad=True)
        with torch.enable_grad():
            closure()
        self.second_step(zero_grad=True)
        return loss

    def state_dict(self):
        packed = super().state_dict()
        packed["base"] = self.base_optimizer.state_dict()
        return packed

    def load_state_dict(self, state_dict):
        state_dict = dict(state_dict)
        base = state_dict.pop("base")
        super().load_state_dict(state_dict)
        self.base_optimizer.load_state_dict(base)
        self.base_optimizer.param_groups = self.param_groups
