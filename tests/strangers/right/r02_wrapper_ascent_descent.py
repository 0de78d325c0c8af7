from collections import defaultdict

import torch


class SAM:
    """Not an Optimizer: wraps one that is built already."""

    def __init__(self, optimizer, rho=0.5):
        self.optimizer = optimizer
        self.rho = rho
        self.backup = defaultdict(lambda: None)

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def _params(self):
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                yield group.get("rho", self.rho), p

    @torch.no_grad()
    def ascent_step(self):
        grads = [p.grad.norm(2) for _, p in self._params() if p.grad is not None]
        if grads:
            norm = torch.stack(grads).norm(2) + 1.0e-16
            for rho, p in self._params():
                if p.grad is None:
                    continue
                self.backup[p] = p.detach().clone()
                p.add_(p.grad, alpha=(rho / norm).item())
        self.optimizer.zero_grad()

    @torch.no_grad()
    def descent_step(self):
        for _, p in self._params():
            saved = self.backup[p]
            if saved is not None:
                p.copy_(saved)
        self.backup.clear()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self):
        return {"rho": self.rho, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.rho = state["rho"]
        self.optimizer.load_state_dict(state["optimizer"])


def make(params, hyper):
    sgd = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return SAM(sgd, rho=hyper.rho)
