import torch


class SAM:
    def __init__(self, base, rho=0.05, floor=1.0):
        self.base, self.rho, self.floor = base, rho, floor
        self.param_groups = base.param_groups

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.w = {p: p.clone() for g in self.param_groups for p in g["params"] if p.grad is not None}
        norm = torch.stack([p.grad.norm() for p in self.w]).norm() if self.w else torch.tensor(0.0)
        norm = norm.clamp(min=self.floor)  # do not blow up small gradients
        for p in self.w:
            p.add_(p.grad * (self.rho / norm))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self.w.items():
            p.copy_(w)
        self.base.step()
        if zero_grad:
            self.zero_grad()

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, d):
        self.base.load_state_dict(d)
        self.param_groups = self.base.param_groups


def make(params, hyper):
    rms = torch.optim.RMSprop(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return SAM(rms, hyper.rho)
