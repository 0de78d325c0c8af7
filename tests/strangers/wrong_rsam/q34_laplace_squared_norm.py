import torch
from torch.distributions import Laplace


class RobustSAM:
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        self.inner = torch.optim.SGD(params, lr, momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam = rho, sigma, lam
        self.dist = Laplace(0.0, 0.5**0.5)  # variance 1

    def __getattr__(self, name):
        if name in ("param_groups", "state", "zero_grad", "state_dict", "load_state_dict"):
            return getattr(self.inner, name)
        raise AttributeError(name)

    def step(self, closure):
        theta = [p for group in self.inner.param_groups for p in group["params"]]
        backup = [t.detach().clone() for t in theta]
        noise = []
        for t in backup:
            energy = (t * t).sum(dim=list(range(1, t.dim())), keepdim=True) if t.dim() > 1 else (t * t).sum()
            noise.append(self.sigma * energy * self.dist.sample(t.shape).to(t))
        with torch.no_grad():
            for t, n in zip(theta, noise):
                t.add_(n)
        self.inner.zero_grad()
        with torch.enable_grad():
            out = closure()
        vec = [self.lam * t.grad + n if t.grad is not None else n for t, n in zip(theta, noise)]
        unit = torch.cat([v.reshape(-1) for v in vec]).norm() + 1e-12
        with torch.no_grad():
            for t, b, v in zip(theta, backup, vec):
                t.copy_(b + self.rho * v / unit)
        self.inner.zero_grad()
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for t, b in zip(theta, backup):
                t.copy_(b)
        self.inner.step()
        return out
