import torch


class NesterovSAM(torch.optim.Optimizer):
    def __init__(self, params, base_cls, *, rho=0.05, **base_kwargs):
        super().__init__(params, {"rho": rho})
        self.inner = base_cls(self.param_groups, **base_kwargs)
        self.param_groups = self.inner.param_groups

    @torch.no_grad()
    def step(self, closure):
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        gs = [p.grad.flatten() for gr in self.param_groups for p in gr["params"] if p.grad is not None]
        norm = torch.cat(gs).norm() if gs else torch.tensor(0.0)
        originals = []
        for gr in self.param_groups:
            for p in gr["params"]:
                originals.append((p, p.clone()))
                if p.grad is not None:
                    p.add_(p.grad.div(norm + 1e-12).mul(gr["rho"]))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, w in originals:
            p.copy_(w)
        self.inner.step()
        return loss

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state_dict):
        self.inner.load_state_dict(state_dict)
        self.param_groups = self.inner.param_groups


def make(params, hyper):
    return NesterovSAM(params, torch.optim.SGD, rho=hyper.rho, lr=hyper.lr, momentum=hyper.momentum,
                       weight_decay=hyper.weight_decay, nesterov=hyper.momentum > 0)
