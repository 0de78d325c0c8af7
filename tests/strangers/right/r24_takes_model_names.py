import torch
from torch import nn


class SAM:
    """Takes the network, keeps its backup by name; rho is a callable of the step or a number."""

    def __init__(self, model: nn.Module, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        self.model = model
        self.rho = rho
        self.t = 0
        self.optimizer = torch.optim.SGD(model.parameters(), lr, momentum, weight_decay=weight_decay)
        self._backup = {}

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def radius(self):
        return self.rho(self.t) if callable(self.rho) else self.rho

    @torch.no_grad()
    def first_step(self, zero_grad: bool = True):
        grads = {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}
        norm = torch.norm(torch.stack([torch.norm(g) for g in grads.values()])) if grads else 1.0
        for n, p in self.model.named_parameters():
            self._backup[n] = p.data.clone()
            if n in grads:
                p.data += self.radius * grads[n] / (norm + 1e-12)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = True):
        for n, p in self.model.named_parameters():
            p.data.copy_(self._backup[n])
        self._backup.clear()
        self.optimizer.step()
        self.t += 1
        if zero_grad:
            self.zero_grad()

    def zero_grad(self):
        self.optimizer.zero_grad()

    def state_dict(self):
        return {"t": self.t, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, d):
        self.t = d["t"]
        self.optimizer.load_state_dict(d["optimizer"])
