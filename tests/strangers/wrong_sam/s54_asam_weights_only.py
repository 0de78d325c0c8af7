import torch
from torch import nn


class ASAM(torch.optim.Optimizer):
    """ASAM(model, ...): biases have no scale that could be invariant, so they take no part."""

    def __init__(self, model: nn.Module, lr=0.1, momentum=0.9, weight_decay=5e-4, rho=0.5, eta=0.01):
        super().__init__(model.parameters(), dict(lr=lr, momentum=momentum, weight_decay=weight_decay))
        self.named = [(n, p) for n, p in model.named_parameters()]
        self.inner = torch.optim.SGD(self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.param_groups = self.inner.param_groups
        self.rho, self.eta = rho, eta

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        self.zero_grad()
        loss = closure()
        scaled = []
        for n, p in self.named:
            if p.grad is None or "bias" in n:
                continue
            t = p.abs() + self.eta
            scaled.append((p, p.clone(), t, t * p.grad))
        norm = torch.cat([tg.flatten() for *_, tg in scaled]).norm()
        for p, _, t, tg in scaled:
            p.add_(t * tg * (self.rho / (norm + 1e-12)))
        self.zero_grad()
        closure()
        for p, w, *_ in scaled:
            p.copy_(w)
        self.inner.step()
        return loss

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, d):
        self.inner.load_state_dict(d)
        self.param_groups = self.inner.param_groups
