"""SAM without the memory of a second copy of the weights."""
import torch
from torch.optim import Optimizer, SGD


class LowMemorySAM(Optimizer):
    def __init__(self, params, lr=1e-1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))
        self.sgd = SGD(self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.param_groups = self.sgd.param_groups

    def _each(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    yield group, p

    @torch.no_grad()
    def _move(self, direction):
        # nothing has to be stored: the offset follows from the gradients
        norm = sum(p.grad.pow(2).sum() for _, p in self._each()) ** 0.5
        for group, p in self._each():
            p.add_(p.grad, alpha=float(direction * group["rho"] / (norm + 1e-12)))

    def first_step(self, zero_grad=True):
        self._move(+1)
        if zero_grad:
            self.zero_grad()

    def second_step(self, zero_grad=True):
        self._move(-1)
        self.sgd.step()
        if zero_grad:
            self.zero_grad()

    def state_dict(self):
        return self.sgd.state_dict()

    def load_state_dict(self, d):
        self.sgd.load_state_dict(d)
        self.param_groups = self.sgd.param_groups
