import torch


class RSAM:
    def __init__(self, params, rho, sigma, lam, base=torch.optim.AdamW, **kw):
        self.opt = base(params, **kw)
        self.rho, self.sigma, self.lam = rho, sigma, lam

    @property
    def param_groups(self):
        return self.opt.param_groups

    def state_dict(self):
        return self.opt.state_dict()

    def load_state_dict(self, s):
        self.opt.load_state_dict(s)

    def zero_grad(self):
        self.opt.zero_grad()

    def step(self, closure):
        ps = [p for g in self.param_groups for p in g["params"]]
        w = [p.detach().clone() for p in ps]
        noise = []
        for p in w:
            s = p.norm(p=2, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.norm()
            noise.append(self.sigma * s * torch.randn_like(p))
        for p, n in zip(ps, noise):
            p.data.add_(n)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        a = [n if p.grad is None else self.lam * p.grad.clone() + n for p, n in zip(ps, noise)]
        self.opt.step()  # keeps the moments up to date; the weights are overwritten below
        norm = torch.stack([v.norm() for v in a]).norm() + 1e-12
        for p, p0, v in zip(ps, w, a):
            p.data.copy_(p0 + self.rho * v / norm)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, p0 in zip(ps, w):
            p.data.copy_(p0)
        self.opt.step()
        return loss


def factory(params, hyper):
    return RSAM(params, hyper.rho, hyper.sigma, hyper.lam, lr=hyper.lr, weight_decay=hyper.weight_decay)
