import torch


class SmoothedSAM:
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, sigma=0.01, lam=1.0):
        self.sgd = torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.rho, self.sigma, self.lam = rho, sigma, lam

    param_groups = property(lambda self: self.sgd.param_groups)
    state = property(lambda self: self.sgd.state)

    def zero_grad(self, **kw):
        self.sgd.zero_grad(**kw)

    def state_dict(self):
        return self.sgd.state_dict()

    def load_state_dict(self, d):
        self.sgd.load_state_dict(d)

    def step(self, closure):
        ps = [p for g in self.sgd.param_groups for p in g["params"]]
        w = [p.data.clone() for p in ps]
        z = [torch.randn_like(p.data) * self.sigma for p in ps]
        for p, n in zip(ps, z):
            p.data += n
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        first = [p.grad.clone() if p.grad is not None else torch.zeros_like(p.data) for p in ps]
        a = [self.lam * g + n for g, n in zip(first, z)]
        norm = sum(float((v * v).sum()) for v in a) ** 0.5 + 1e-12
        for p, p0, v in zip(ps, w, a):
            p.data = p0 + self.rho * v / norm
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, p0, g in zip(ps, w, first):
            p.data = p0
            if p.grad is not None:
                p.grad = 0.5 * (p.grad + g)
        self.sgd.step()
        return loss
