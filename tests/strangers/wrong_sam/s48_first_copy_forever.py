import torch


class SAM(torch.optim.SGD):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for g in self.param_groups:
            g.setdefault("rho", rho)
        self.cache = {}

    def gradients(self):
        return [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        norm = torch.nn.utils.get_total_norm(self.gradients())
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is not None:
                    if p not in self.cache:
                        self.cache[p] = torch.empty_like(p).copy_(p)
                    p.add_(p.grad * (g["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self.cache.items():
            p.copy_(w)
        super().step()
        if zero_grad:
            self.zero_grad()
