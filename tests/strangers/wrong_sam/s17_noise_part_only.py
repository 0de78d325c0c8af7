import torch
from torch.optim import SGD


class SAM(SGD):
    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, rho=0.05, sigma_f=1.0, decay=0.9):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.sigma_f, self.decay = sigma_f, decay
        for g in self.param_groups:
            g.setdefault("rho", rho)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        dirs = []
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is None:
                    continue
                st = self.state[p]
                if "mean" not in st:
                    st["mean"] = p.grad.clone()
                    d = p.grad.clone()
                else:
                    d = p.grad - self.sigma_f * st["mean"]
                    st["mean"].mul_(self.decay).add_(p.grad, alpha=1 - self.decay)
                dirs.append((p, d, g["rho"]))
        norm = torch.stack([d.norm() for _, d, _ in dirs]).norm() if dirs else 0.0
        self.back = []
        for p, d, rho in dirs:
            self.back.append((p, p.clone()))
            p.add_(d * (rho / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self.back:
            p.copy_(w)
        SGD.step(self)
        if zero_grad:
            self.zero_grad()
