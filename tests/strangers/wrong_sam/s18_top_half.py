"""SAM on the coordinates that matter."""
import torch


class SAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.05, keep=0.5):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))
        self.opt = torch.optim.SGD(self.param_groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.param_groups = self.opt.param_groups
        self.keep = keep

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        ps = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        flat = torch.cat([p.grad.reshape(-1) for p in ps])
        threshold = flat.abs().quantile(1 - self.keep)
        norm = flat.norm()
        self.stash = [(p, p.detach().clone()) for p in ps]
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is not None:
                    mask = (p.grad.abs() >= threshold).to(p.dtype)
                    p.add_(mask * p.grad * g["rho"] / (norm + 1e-12))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self.stash:
            p.data.copy_(w)
        self.opt.step()
        if zero_grad:
            self.zero_grad()

    def state_dict(self):
        return self.opt.state_dict()

    def load_state_dict(self, d):
        self.opt.load_state_dict(d)
        self.param_groups = self.opt.param_groups
