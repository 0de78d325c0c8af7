import torch


class SAM(torch.optim.RMSprop):
    def __init__(self, params, lr=1e-3, rho=0.05, weight_decay=0.0, momentum=0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum)
        for g in self.param_groups:
            g.setdefault("rho", rho)
        self._memory = None

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        memory, sq = [], 0.0
        for g in self.param_groups:
            for p in g["params"]:
                memory.append(p.detach().clone())
                if p.grad is not None:
                    sq = sq + p.grad.pow(2).sum()
        self._memory = memory
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is not None:
                    p.add_(g["rho"] * p.grad / (sq**0.5 + 1e-12))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        flat = [p for g in self.param_groups for p in g["params"]]
        for p, m in zip(flat, self._memory):
            p.copy_(m)
        self._memory = None
        super().step()
        if zero_grad:
            self.zero_grad()
