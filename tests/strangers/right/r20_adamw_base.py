import torch
from torch.optim import Optimizer


class SAM(Optimizer):
    """Base optimizer is handed in already built; state_dict is the base's."""

    def __init__(self, base: Optimizer, rho: float = 0.05):
        self.base = base
        self.rho = rho
        self.defaults = base.defaults
        self.param_groups = base.param_groups
        self.state = base.state
        self._saved = {}

    def __repr__(self):
        return f"SAM({self.base!r}, rho={self.rho})"

    @torch.no_grad()
    def first_step(self, zero_grad=True):
        ps = [(p, g.get("rho", self.rho)) for g in self.param_groups for p in g["params"] if p.grad is not None]
        self._saved = {p: p.clone() for p, _ in ps}
        norm = torch.stack([p.grad.norm() for p, _ in ps]).norm() if ps else 0.0
        for p, rho in ps:
            p.add_(p.grad * (rho / (norm + 1e-12)))
        if zero_grad:
            self.base.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=True):
        for p, w in self._saved.items():
            p.copy_(w)
        self._saved = {}
        self.base.step()
        if zero_grad:
            self.base.zero_grad()

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none)

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, sd):
        self.base.load_state_dict(sd)
        self.param_groups, self.state = self.base.param_groups, self.base.state


def make(params, hyper):
    return SAM(torch.optim.AdamW(params, lr=hyper.lr, weight_decay=hyper.weight_decay), rho=hyper.rho)
