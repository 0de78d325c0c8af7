import torch


class RSAM(torch.optim.Optimizer):
    """Either perturb() / backward / first_step() / backward / second_step(), or step(closure)."""

    def __init__(self, params, base_optimizer, rho=0.05, sigma=0.001, lam=1.0, **kwargs):
        defaults = dict(rho=rho, sigma=sigma, lam=lam, **kwargs)
        super(RSAM, self).__init__(params, defaults)
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.memory = {}

    @torch.no_grad()
    def perturb(self):
        self.memory = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.dim() > 1:
                    scale = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True)
                else:
                    scale = p.norm(p=2)
                noise = torch.randn_like(p) * (group["sigma"] * scale)
                self.memory[p] = {"old": p.data.clone(), "noise": noise}
                p.add_(noise)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        if not self.memory:
            raise RuntimeError("call perturb() before the first backward pass")
        square = 0.0
        for group in self.param_groups:
            for p in group["params"]:
                m = self.memory[p]
                m["a"] = m["noise"] if p.grad is None else group["lam"] * p.grad + m["noise"]
                square = square + (m["a"] ** 2).sum()
        for group in self.param_groups:
            for p in group["params"]:
                m = self.memory[p]
                p.data = m["old"] + m["a"] * (group["rho"] / (square.sqrt() + 1e-12))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, m in self.memory.items():
            p.data = m["old"]
        self.memory = {}
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None
        closure = torch.enable_grad()(closure)
        self.perturb()
        self.zero_grad()
        loss = closure()
        self.first_step(zero_grad=True)
        closure()
        self.second_step()
        return loss

    def state_dict(self):
        return self.base_optimizer.state_dict()

    def load_state_dict(self, state_dict):
        self.base_optimizer.load_state_dict(state_dict)
        self.param_groups = self.base_optimizer.param_groups
