from collections import defaultdict

import torch


class ASAM:
    def __init__(self, optimizer, rho=0.5, eta=0.01):
        self.optimizer = optimizer
        self.rho, self.eta = rho, eta
        self.state = defaultdict(dict)

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def zero_grad(self):
        self.optimizer.zero_grad()

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, d):
        self.optimizer.load_state_dict(d)

    @torch.no_grad()
    def ascent_step(self):
        wgrads = []
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                t_w = p.abs().add_(self.eta)
                self.state[p]["dir"] = p.grad.mul(t_w)
                wgrads.append(self.state[p]["dir"].norm())
        wgrad_norm = torch.stack(wgrads).norm() + 1e-12
        for p, s in self.state.items():
            if "dir" in s:
                s["old"] = p.clone()
                p.add_(s.pop("dir"), alpha=float(self.rho / wgrad_norm))
        self.optimizer.zero_grad()

    @torch.no_grad()
    def descent_step(self):
        for p, s in self.state.items():
            if "old" in s:
                p.copy_(s.pop("old"))
        self.optimizer.step()
        self.optimizer.zero_grad()


def make(params, hyper):
    sgd = torch.optim.SGD(params, lr=hyper.lr, momentum=hyper.momentum, weight_decay=hyper.weight_decay)
    return ASAM(sgd, rho=hyper.rho, eta=hyper.eta)
