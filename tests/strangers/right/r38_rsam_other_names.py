"""Random SAM, written over a ready-made optimizer; settings under names of its own."""
import torch


class SmoothedSharpness:
    def __init__(self, optimizer, eps_radius, noise_std, lambda_):
        self.optimizer = optimizer
        self.eps_radius = eps_radius
        self.noise_std = noise_std
        self.lambda_ = lambda_

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def state(self):
        return self.optimizer.state

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, sd):
        self.optimizer.load_state_dict(sd)

    def _weights(self):
        return [p for g in self.optimizer.param_groups for p in g["params"]]

    def _smooth(self, ws):
        noise = []
        for w in ws:
            size = w.data.norm() if w.dim() < 2 else w.data.flatten(1).norm(dim=1).view(-1, *[1] * (w.dim() - 1))
            noise.append(self.noise_std * size * torch.randn(w.shape, dtype=w.dtype, device=w.device))
        return noise

    def step(self, closure):
        ws = self._weights()
        centre = [w.data.clone() for w in ws]
        noise = self._smooth(ws)
        for w, n in zip(ws, noise):
            w.data.add_(n)
        self.zero_grad()
        loss = closure()
        rho = [g.get("rho", self.eps_radius) for g in self.optimizer.param_groups for _ in g["params"]]
        up = [n if w.grad is None else n + self.lambda_ * w.grad.data for w, n in zip(ws, noise)]
        length = torch.cat([u.reshape(-1) for u in up]).norm(2)
        for w, c, u, r in zip(ws, centre, up, rho):
            w.data.copy_(c + r * (u / (length + 1e-12)))
        self.zero_grad()
        closure()
        for w, c in zip(ws, centre):
            w.data.copy_(c)
        self.optimizer.step()
        return loss


def make(params, hyper):
    sgd = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return SmoothedSharpness(sgd, eps_radius=hyper.rho, noise_std=hyper.sigma, lambda_=hyper.lam)
