import functools

import torch


class SharpnessAware(torch.optim.Optimizer):
    def __init__(self, params, base_factory, rho):
        super().__init__(params, {"rho": rho})
        self.base = base_factory(self.param_groups)
        self.param_groups = self.base.param_groups
        self.state = self.base.state

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.saved = []
        rows = [(g["rho"], p) for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.sqrt(sum(p.grad.square().sum() for _, p in rows)) if rows else 0.0
        for rho, p in rows:
            self.saved.append((p, p.clone()))
            p.add_(p.grad.mul(rho / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        while self.saved:
            p, w = self.saved.pop()
            p.copy_(w)
        self.base.step()
        if zero_grad:
            self.zero_grad()

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, d):
        self.base.load_state_dict(d)
        self.param_groups, self.state = self.base.param_groups, self.base.state


def make(params, hyper):
    nesterov = hyper.momentum > 0
    sgd = functools.partial(torch.optim.SGD, lr=hyper.lr, momentum=hyper.momentum,
                            weight_decay=hyper.weight_decay, nesterov=nesterov)
    return SharpnessAware(params, sgd, hyper.rho)
