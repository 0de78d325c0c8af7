import torch
from torch.optim import SGD


class RandomSAM:
    """Not an Optimizer: holds one and forwards to it."""

    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        self.optimizer = SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for g in self.optimizer.param_groups:
            g.setdefault("rho", rho)
            g.setdefault("sigma", sigma)
            g.setdefault("lam", lam)

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def state(self):
        return self.optimizer.state

    def zero_grad(self):
        self.optimizer.zero_grad()

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, sd):
        self.optimizer.load_state_dict(sd)

    def _each(self):
        for g in self.param_groups:
            for p in g["params"]:
                yield g, p

    def step(self, closure):
        saved = {p: p.detach().clone() for _, p in self._each()}
        noise = {}
        with torch.no_grad():
            for g, p in self._each():
                if p.dim() >= 2:
                    size = torch.linalg.vector_norm(p, dim=list(range(1, p.dim())), keepdim=True)
                else:
                    size = torch.linalg.vector_norm(p) + 1e-16
                noise[p] = torch.normal(torch.zeros_like(p), 1.0) * size * g["sigma"]
                p.add_(noise[p])
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            ascent = {p: noise[p] + g["lam"] * p.grad if p.grad is not None else noise[p] for g, p in self._each()}
            length = torch.sqrt(sum(a.pow(2).sum() for a in ascent.values()))
            for g, p in self._each():
                p.add_(ascent[p], alpha=g["rho"] / (length.item() + 1e-12))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for p, w in saved.items():
                p.copy_(w)
        self.optimizer.step()
        return loss
