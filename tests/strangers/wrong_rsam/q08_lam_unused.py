import torch
from torch.nn.utils import parameters_to_vector


class FlatRSAM(torch.optim.SGD):
    """Works on one flat vector of all weights."""

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=1e-2, lam=1.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam = rho, sigma, lam

    def _all(self):
        return [p for group in self.param_groups for p in group["params"]]

    def _write(self, vector):
        start = 0
        for p in self._all():
            p.data.copy_(vector[start : start + p.numel()].view_as(p))
            start += p.numel()

    def _gradient(self):
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self._all()])

    def _sizes(self):
        out = []
        for p in self._all():
            rows = p.detach().reshape(p.shape[0], -1) if p.dim() > 1 else p.detach().reshape(1, -1)
            out.append(rows.norm(dim=1, keepdim=True).expand_as(rows).reshape(-1))
        return torch.cat(out)

    @torch.no_grad()
    def step(self, closure):
        w = parameters_to_vector(self._all()).clone()
        noise = self.sigma * self._sizes() * torch.randn_like(w)
        self._write(w + noise)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        direction = self._gradient() + noise
        self._write(w + self.rho * direction / (direction.norm() + 1e-12))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        self._write(w)
        super().step()
        return loss
