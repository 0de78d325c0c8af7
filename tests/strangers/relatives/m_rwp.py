import torch


class MixedRWP(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, sigma=0.01, lam=0.5):
        defaults = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, sigma=sigma, lam=lam)
        super().__init__(params, defaults)

    def _backward(self, closure):
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        return loss, [
            [None if p.grad is None else p.grad.clone() for p in group["params"]] for group in self.param_groups
        ]

    @torch.no_grad()
    def step(self, closure):
        loss, clean = self._backward(closure)
        weights = [[p.clone() for p in group["params"]] for group in self.param_groups]
        for group in self.param_groups:
            for p in group["params"]:
                if p.requires_grad:
                    p.add_(self._noise(p, group["sigma"]))
        _, noisy = self._backward(closure)

        for group, ws, cs, ns in zip(self.param_groups, weights, clean, noisy):
            lam = group["lam"]
            for p, w, c, n in zip(group["params"], ws, cs, ns):
                p.copy_(w)
                if c is None and n is None:
                    continue
                c = torch.zeros_like(p) if c is None else c
                n = torch.zeros_like(p) if n is None else n
                self._sgd(group, p, lam * n + (1 - lam) * c)
        return loss

    def _noise(self, p, sigma):
        z = torch.randn(p.shape, dtype=p.dtype, device=p.device)
        if p.ndim <= 1:
            return sigma * torch.linalg.vector_norm(p) * z
        dims = tuple(range(1, p.ndim))
        return sigma * torch.linalg.vector_norm(p, dim=dims, keepdim=True) * z

    def _sgd(self, group, p, d):
        d = d + group["weight_decay"] * p
        if group["momentum"] != 0:
            buf = self.state[p].get("momentum_buffer", None)
            buf = d if buf is None else group["momentum"] * buf + d
            self.state[p]["momentum_buffer"] = d = buf
        p.sub_(d, alpha=group["lr"])
