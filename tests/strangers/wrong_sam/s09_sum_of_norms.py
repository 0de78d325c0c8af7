"""A wrapper around any optimizer; it is no torch.optim.Optimizer itself."""
import torch


class SAMWrapper:
    def __init__(self, optimizer, rho):
        self.optimizer = optimizer
        self.rho = rho

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def state(self):
        return self.optimizer.state

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self):
        return {"inner": self.optimizer.state_dict(), "rho": self.rho}

    def load_state_dict(self, d):
        self.optimizer.load_state_dict(d["inner"])
        self.rho = d["rho"]

    @torch.no_grad()
    def perturb(self):
        self.saved = []
        params = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        grad_norm = sum([p.grad.norm() for p in params])
        for p in params:
            self.saved.append((p, p.clone()))
            p.add_(p.grad / (grad_norm + 1e-12), alpha=self.rho)

    @torch.no_grad()
    def restore(self):
        for p, w in self.saved:
            p.copy_(w)
        self.saved = []

    def step(self, closure):
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        self.perturb()
        self.zero_grad()
        with torch.enable_grad():
            closure()
        self.restore()
        self.optimizer.step()
        return loss


def make(params, hyper):
    sgd = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return SAMWrapper(sgd, hyper.rho)
