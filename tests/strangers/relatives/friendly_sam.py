import torch


class FriendlySAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.05, sigma=1.0, lam=0.9, **kwargs):
        assert rho >= 0, f"Invalid rho {rho}"
        super().__init__(params, dict(rho=rho, sigma=sigma, lam=lam, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)
        self.base_optimizer.state = self.state

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        directions = []
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = p.grad.detach()
                state = self.state[p]
                if "ema" in state:
                    d = g - group["sigma"] * state["ema"]
                    state["ema"].mul_(group["lam"]).add_(g, alpha=1 - group["lam"])
                else:
                    d = g.clone()
                    state["ema"] = g.clone()
                directions.append((group, p, d))
        norm = sum(d.double().pow(2).sum().item() for _, _, d in directions) ** 0.5
        self._before = [(p, p.clone()) for _, p, _ in directions]
        for group, p, d in directions:
            p.add_(d * (group["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self._before:
            p.copy_(w)
        del self._before
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure):
        self.zero_grad()
        loss = closure()
        self.first_step(zero_grad=True)
        closure()
        self.second_step()
        return loss

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups = self.param_groups
        self.base_optimizer.state = self.state
