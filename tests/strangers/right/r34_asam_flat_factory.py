import torch
from torch.nn.utils import parameters_to_vector as flatten, vector_to_parameters as unflatten


class AdaptiveSharpness:
    def __init__(self, params, base, eps_radius, damping=0.01):
        self.params = list(params)
        self.base = base
        self.eps_radius = eps_radius
        self.damping = damping

    def _grad(self, closure):
        for p in self.params:
            p.grad = None
        loss = closure()
        return loss, torch.cat([torch.zeros_like(p).view(-1) if p.grad is None else p.grad.reshape(-1)
                                for p in self.params])

    def step(self, closure):
        w = flatten(self.params).detach().clone()
        loss, g = self._grad(closure)
        t = w.abs() + self.damping
        r = t * g
        with torch.no_grad():
            unflatten(w + self.eps_radius * t * r / (r.norm() + 1e-12), self.params)
        self._grad(closure)
        with torch.no_grad():
            unflatten(w, self.params)
        self.base.step()
        return loss

    @property
    def param_groups(self):
        return self.base.param_groups

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none)

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, sd):
        self.base.load_state_dict(sd)


def build(params, hyper):
    params = list(params)
    sgd = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return AdaptiveSharpness(params, sgd, eps_radius=hyper.rho, damping=hyper.eta)
