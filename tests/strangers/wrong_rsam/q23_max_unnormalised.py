import torch


class RSAM:
    def __init__(self, optimizer, rho=0.5, sigma=0.01, lam=1.0):
        self.optimizer = optimizer
        self.rho, self.sigma, self.lam = rho, sigma, lam
        self.param_groups, self.state = optimizer.param_groups, optimizer.state

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, sd):
        self.optimizer.load_state_dict(sd)
        self.param_groups, self.state = self.optimizer.param_groups, self.optimizer.state

    def zero_grad(self):
        self.optimizer.zero_grad()

    @torch.no_grad()
    def randomize(self):
        self.clean, self.delta = {}, {}
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                self.clean[p] = p.clone()
                largest = p.abs().amax(dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else p.abs().max()
                self.delta[p] = torch.randn_like(p) * largest * self.sigma
                p.add_(self.delta[p])

    @torch.no_grad()
    def ascend(self):
        for p, d in self.delta.items():
            e = d if p.grad is None else self.lam * p.grad + d
            p.copy_(self.clean[p] + self.rho * e)

    @torch.no_grad()
    def restore(self):
        for p, w in self.clean.items():
            p.copy_(w)
        del self.clean, self.delta

    def step(self, closure):
        self.randomize()
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        self.ascend()
        self.zero_grad()
        with torch.enable_grad():
            closure()
        self.restore()
        self.optimizer.step()
        return loss


def build(params, hyper):
    sgd = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return RSAM(sgd, rho=hyper.rho, sigma=hyper.sigma, lam=hyper.lam)
