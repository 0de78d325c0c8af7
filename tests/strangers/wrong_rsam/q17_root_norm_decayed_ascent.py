import torch


class RSAMWrapper(object):
    def __init__(self, params, lr, momentum=0, weight_decay=0, rho=0.05, sigma=0.01, lam=1.0):
        self.base = torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam = rho, sigma, lam
        self.param_groups, self.state = self.base.param_groups, self.base.state

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none)

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, state_dict):
        self.base.load_state_dict(state_dict)
        self.param_groups, self.state = self.base.param_groups, self.base.state

    @torch.no_grad()
    def _noise(self):
        out = []
        for group in self.param_groups:
            for p in group["params"]:
                axes = list(range(1, p.ndim)) if p.ndim > 1 else [0]
                s = torch.sqrt(p.norm(p=2, dim=axes, keepdim=True))
                out.append(self.sigma * s * torch.randn_like(p))
        return out

    @torch.no_grad()
    def _ascent(self, w, noise):
        vs, i = [], 0
        for group in self.param_groups:
            for p in group["params"]:
                grad = torch.zeros_like(p) if p.grad is None else p.grad
                if group["weight_decay"] != 0:
                    grad = grad.add(w[i], alpha=group["weight_decay"])
                vs.append(self.lam * grad + noise[i])
                i += 1
        n = torch.cat([v.view(-1) for v in vs]).norm() + 1e-12
        return [self.rho * v / n for v in vs]

    @torch.no_grad()
    def _set(self, values):
        it = iter(values)
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(next(it))

    def step(self, closure):
        w = [p.detach().clone() for group in self.param_groups for p in group["params"]]
        noise = self._noise()
        self._set([a + b for a, b in zip(w, noise)])
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        self._set([a + b for a, b in zip(w, self._ascent(w, noise))])
        self.zero_grad()
        with torch.enable_grad():
            closure()
        self._set(w)
        self.base.step()
        return loss
