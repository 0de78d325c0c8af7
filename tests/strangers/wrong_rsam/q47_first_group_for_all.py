import torch


class RSAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        defaults = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho, sigma=sigma, lam=lam)
        super().__init__(params, defaults)
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups, self.base_optimizer.state = self.param_groups, self.state

    @torch.no_grad()
    def step(self, closure):
        rho = self.param_groups[0]["rho"]
        sigma = self.param_groups[0]["sigma"]
        lam = self.param_groups[0]["lam"]
        params = [p for group in self.param_groups for p in group["params"]]
        w = [p.clone() for p in params]
        a = []
        for p in params:
            n = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm() + 1e-16
            a.append(torch.randn_like(p) * n * sigma)
            p.add_(a[-1])
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        for p, v in zip(params, a):
            if p.grad is not None:
                v.add_(p.grad, alpha=lam)
        scale = rho / (torch.stack([v.norm() for v in a]).norm() + 1e-12)
        for p, p0, v in zip(params, w, a):
            p.copy_(p0 + scale * v)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, p0 in zip(params, w):
            p.copy_(p0)
        self.base_optimizer.step()
        return loss
