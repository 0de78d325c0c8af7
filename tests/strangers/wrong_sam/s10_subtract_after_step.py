import torch


class SAM(torch.optim.Optimizer):
    """climb() and step() in one: first_step / second_step as everywhere."""

    def __init__(self, params, rho=0.05, lr=0.1, momentum=0.9, weight_decay=5e-4):
        defaults = dict(rho=rho, lr=lr, momentum=momentum, weight_decay=weight_decay)
        super().__init__(params, defaults)
        self.inner = torch.optim.SGD(self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.param_groups = self.inner.param_groups
        self.e_w = {}

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grads = {p: p.grad for g in self.param_groups for p in g["params"] if p.grad is not None}
        norm = torch.cat([g.flatten() for g in grads.values()]).norm() if grads else 0.0
        self.e_w = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p in grads:
                    self.e_w[p] = grads[p] * group["rho"] / (norm + 1e-12)
                    p.add_(self.e_w[p])
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        self.inner.step()  # the sharpness-aware update
        for p, e in self.e_w.items():
            p.sub_(e)  # get back from w + e
        if zero_grad:
            self.zero_grad()

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state_dict):
        self.inner.load_state_dict(state_dict)
        self.param_groups = self.inner.param_groups
