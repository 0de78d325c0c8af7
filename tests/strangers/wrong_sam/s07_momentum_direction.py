import torch
from torch.optim import SGD


class SAM(SGD):
    def __init__(self, params, lr, rho=0.05, momentum=0.9, weight_decay=0.0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("rho", rho)

    def direction(self, p):
        """The smoothed gradient is a better guess of the ascent direction than a single noisy batch."""
        buf = self.state[p].get("momentum_buffer")
        return p.grad if buf is None else buf

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        self.moved = []
        todo = [(g, p, self.direction(p)) for g in self.param_groups for p in g["params"] if p.grad is not None]
        if todo:
            norm = torch.norm(torch.stack([d.norm(2) for _, _, d in todo]), 2)
            for g, p, d in todo:
                self.moved.append((p, p.clone()))
                p.add_(d * (g["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self.moved:
            p.copy_(w)
        super().step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure=None):
        with torch.enable_grad():
            loss = closure()
        self.first_step(True)
        with torch.enable_grad():
            closure()
        self.second_step()
        return loss
