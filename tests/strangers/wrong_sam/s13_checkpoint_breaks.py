from collections import OrderedDict

import torch


class SAMOptimizer(torch.optim.Optimizer):
    def __init__(self, params, lr, rho=0.05, momentum=0.0, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, rho=rho, momentum=momentum, weight_decay=weight_decay))
        self.base = torch.optim.SGD(self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.param_groups = self.base.param_groups
        self.state = self.base.state
        self.memory = OrderedDict()

    @torch.no_grad()
    def first_step(self):
        self.memory.clear()
        params = [(p, g["rho"]) for g in self.param_groups for p in g["params"] if p.grad is not None]
        n2 = sum((p.grad.pow(2).sum() for p, _ in params), torch.zeros(()))
        for p, rho in params:
            self.memory[p] = p.data.clone()
            p.data.add_(p.grad.data * (rho / (n2.sqrt() + 1e-12)))

    @torch.no_grad()
    def second_step(self):
        for p, w in self.memory.items():
            p.data.copy_(w)
        self.base.step()

    def state_dict(self):
        return {"base": self.base.state_dict(), "rho": [g["rho"] for g in self.param_groups]}
