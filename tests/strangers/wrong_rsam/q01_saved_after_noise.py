"""R-SAM on top of any torch optimizer, in the manner of the well-known two-step SAM class."""
import torch


class RSAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, sigma=0.01, lam=1.0, **kwargs):
        assert rho >= 0.0, f"Invalid rho, should be non-negative: {rho}"
        super().__init__(params, dict(rho=rho, sigma=sigma, lam=lam, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)
        self.state = self.base_optimizer.state
        self.tmp = {}

    @torch.no_grad()
    def smooth(self):
        for group in self.param_groups:
            for p in group["params"]:
                dims = tuple(range(1, p.dim())) or (0,)
                scale = p.norm(p=2, dim=dims, keepdim=True)
                noise = group["sigma"] * (scale + (1e-16 if p.dim() == 1 else 0.0)) * torch.randn_like(p)
                p.add_(noise)
                self.tmp[p] = {"noise": noise}

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        parts = []
        for group in self.param_groups:
            for p in group["params"]:
                a = self.tmp[p]["noise"].clone()
                if p.grad is not None:
                    a.add_(p.grad, alpha=group["lam"])
                self.tmp[p]["a"] = a
                parts.append(a.norm(p=2))
        norm = torch.stack(parts).norm(p=2)
        for group in self.param_groups:
            for p in group["params"]:
                t = self.tmp[p]
                t["old_p"] = p.data.clone()
                p.sub_(t["noise"])
                p.add_(t["a"] * (group["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.copy_(self.tmp[p]["old_p"])
        self.base_optimizer.step()
        self.tmp.clear()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "needs a closure"
        closure = torch.enable_grad()(closure)
        self.smooth()
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


def make(params, hyper):
    return RSAM(params, torch.optim.SGD, rho=hyper.rho, sigma=hyper.sigma, lam=hyper.lam, lr=hyper.lr,
                momentum=hyper.momentum, weight_decay=hyper.weight_decay)
