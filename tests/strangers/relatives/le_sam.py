import torch


class LESAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer=torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.3, sigma=0.35):
        settings = dict(lr=lr, momentum=momentum, weight_decay=weight_decay)
        super().__init__(params, dict(rho=rho, sigma=sigma, **settings))
        self.base = base_optimizer(self.param_groups, **settings)
        self.param_groups = self.base.param_groups
        for key, value in self.base.defaults.items():
            self.defaults.setdefault(key, value)
        self.base.state = self.state

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "base"):
            self.base.param_groups = self.param_groups
            self.base.state = self.state

    @torch.no_grad()
    def ascend(self):
        grads = [p.grad.double().flatten() for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.cat(grads).norm().item() if grads else 0.0
        self.origin = {}
        for group in self.param_groups:
            radius = min(group["sigma"] / (norm + 1e-12), group["rho"])
            for p in group["params"]:
                if p.grad is not None:
                    self.origin[p] = p.detach().clone()
                    p.add_(p.grad * (radius / (norm + 1e-12)))

    @torch.no_grad()
    def come_back(self):
        for p, w in self.origin.items():
            p.copy_(w)
        self.origin = {}

    def step(self, closure):
        self.zero_grad()
        loss = closure()
        loss.backward()
        self.ascend()
        self.zero_grad()
        closure().backward()
        self.come_back()
        self.base.step()
        return loss.detach()
