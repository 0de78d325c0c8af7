import torch


class WSAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, lr=0.1, rho=0.05, gamma=0.9, **kwargs):
        if not 0 <= gamma < 1:
            raise ValueError("gamma must lie in [0, 1)")
        super().__init__(params, dict(lr=lr, rho=rho, gamma=gamma, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, lr=lr, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)
        self.base_optimizer.state = self.state

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.cache = []
        norm = self.grad_norm()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.cache.append((group, p, p.detach().clone(), p.grad.detach().clone()))
                e_w = p.grad * (group["rho"] / (norm + 1e-12))
                p.add_(e_w)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        sharpness = []
        touched = set()
        for group, p, w, g0 in self.cache:
            p.copy_(w)
            touched.add(p)
            if p.grad is not None:
                sharpness.append((group, p, p.grad - g0))
            p.grad = g0
        for group in self.param_groups:
            for p in group["params"]:
                if p not in touched and p.grad is not None:
                    sharpness.append((group, p, p.grad.clone()))
                    p.grad.zero_()
        lrs = [group["lr"] for group in self.param_groups]
        self.base_optimizer.step()
        lr_of = {id(group): lr for group, lr in zip(self.param_groups, lrs)}
        for group, p, diff in sharpness:
            weight = group["gamma"] / (1 - group["gamma"])
            p.add_(diff, alpha=-lr_of[id(group)] * weight)
        self.cache = []
        if zero_grad:
            self.zero_grad()

    def grad_norm(self):
        squares = [
            p.grad.double().square().sum().cpu()
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        return torch.stack(squares).sum().sqrt().item() if squares else 0.0

    @torch.no_grad()
    def step(self, closure=None):
        closure = torch.enable_grad()(closure)
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
