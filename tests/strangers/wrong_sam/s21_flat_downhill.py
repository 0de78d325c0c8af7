"""SAM on one flat vector."""
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters


class FlatSAM:
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, rho=0.05):
        self.params = list(params)
        self.lr, self.momentum, self.weight_decay, self.rho = lr, momentum, weight_decay, rho
        self.velocity = None

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    def _gradient(self):
        return torch.cat([
            (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.params
        ])

    def _load(self, vector):
        with torch.no_grad():
            vector_to_parameters(vector, self.params)

    def step(self, closure):
        w = parameters_to_vector(self.params).detach().clone()
        self.zero_grad()
        loss = closure()
        g = self._gradient()
        self._load(w - self.rho * g / (g @ g + 1e-12))
        self.zero_grad()
        closure()
        g = self._gradient() + self.weight_decay * w
        self.velocity = g if self.velocity is None else self.momentum * self.velocity + g
        self._load(w - self.lr * self.velocity)
        return loss

    def state_dict(self):
        return {"velocity": self.velocity}

    def load_state_dict(self, d):
        self.velocity = d["velocity"]


def make(params, hyper):
    return FlatSAM(params, hyper.lr, hyper.momentum, hyper.weight_decay, hyper.rho)
