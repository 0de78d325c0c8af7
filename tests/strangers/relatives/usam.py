import torch


class USAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, rho=0.05, **kwargs):
        if rho < 0:
            raise ValueError(f"rho must be non-negative, got {rho}")
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)
        self.base_optimizer.state = self.state
        self._backup = {}

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self._backup = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                self._backup[p] = p.detach().clone()
                p.add_(p.grad, alpha=group["rho"])
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, old in self._backup.items():
            p.copy_(old)
        self._backup = {}
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        if closure is None:
            raise RuntimeError("USAM.step needs a closure")
        with torch.enable_grad():
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
