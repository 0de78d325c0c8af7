import torch


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, adaptive=False, eta=0.01, **kwargs):
        super().__init__(params, dict(rho=rho))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.state = self.base_optimizer.state
        self.defaults["adaptive"], self.defaults["eta"] = adaptive, eta

    def _t(self, group, p):
        if group.get("adaptive", False):
            return p.abs() + group["eta"]
        return torch.ones_like(p)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        live = [(g, p, self._t(g, p)) for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.stack([(t * p.grad).norm() for _, p, t in live]).norm()
        self.old = {p: p.clone() for _, p, _ in live}
        for g, p, t in live:
            p.add_(t * t * p.grad * (g["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self.old.items():
            p.copy_(w)
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    def state_dict(self):
        return self.base_optimizer.state_dict()

    def load_state_dict(self, d):
        self.base_optimizer.load_state_dict(d)
        self.param_groups, self.state = self.base_optimizer.param_groups, self.base_optimizer.state


def make(params, hyper):
    return SAM(params, torch.optim.SGD, rho=hyper.rho, adaptive=True, eta=hyper.eta, lr=hyper.lr,
               momentum=hyper.momentum, weight_decay=hyper.weight_decay)
