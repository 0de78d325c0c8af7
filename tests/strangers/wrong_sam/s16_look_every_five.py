import torch


class FastSAM(torch.optim.Optimizer):
    """SAM at (almost) the price of SGD."""

    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05, k=5, alpha=0.7):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))
        self.sgd = torch.optim.SGD(self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.param_groups = self.sgd.param_groups
        self.k, self.alpha, self.t = k, alpha, 0
        self.gv = {}

    def params(self):
        return [(g, p) for g in self.param_groups for p in g["params"] if p.grad is not None]

    @staticmethod
    def norm(tensors):
        return torch.stack([t.norm() for t in tensors]).norm() + 1e-12

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        loss = closure()
        todo = self.params()
        g0 = {p: p.grad.clone() for _, p in todo}
        n0 = self.norm(g0.values())
        if self.t % self.k == 0:
            w0 = {p: p.clone() for _, p in todo}
            for g, p in todo:
                p.add_(g0[p] * (g["rho"] / n0))
            closure()
            for p, w in w0.items():
                p.copy_(w)
            gs = {p: p.grad.clone() for _, p in todo}
            dot = sum((gs[p] * g0[p]).sum() for p in gs)
            self.gv = {p: gs[p] - dot / n0 ** 2 * g0[p] for p in gs}
        else:
            ratio = n0 / self.norm(self.gv.values())
            for _, p in todo:
                p.grad = g0[p] + self.alpha * ratio * self.gv[p]
        self.t += 1
        self.sgd.step()
        return loss
