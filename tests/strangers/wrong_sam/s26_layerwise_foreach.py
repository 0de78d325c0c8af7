import torch
from torch.optim.sgd import SGD


class SAM(SGD):
    @torch.no_grad()
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=True)
        self.rho = rho

    @torch.no_grad()
    def first_step(self):
        self.params = [p for g in self.param_groups for p in g["params"] if p.grad is not None and p.ndim > 1]
        grads = [p.grad for p in self.params]
        self.old = torch._foreach_mul(self.params, 1.0)
        norms = torch._foreach_norm(grads)
        torch._foreach_add_(norms, 1e-12)
        steps = torch._foreach_div(grads, norms)
        torch._foreach_mul_(steps, self.rho)
        torch._foreach_add_(self.params, steps)

    @torch.no_grad()
    def second_step(self):
        torch._foreach_copy_(self.params, self.old)
        super().step()
