"""SAM + heavy ball, written out so that students can follow each line."""
import torch


class TeachingSAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))
        self.velocity = {}
        self.start = {}

    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            self.go_up()
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            self.come_back()
            self.go_down()
        return loss

    def go_up(self):
        squares = 0.0
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    squares += float((w.grad * w.grad).sum())
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self.start[w] = w.clone()
                    w += group["rho"] * w.grad / (squares ** 0.5 + 1e-12)

    def come_back(self):
        for w, w0 in self.start.items():
            w.copy_(w0)
        self.start = {}

    def go_down(self):
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                d = w.grad + group["weight_decay"] * w
                v = group["momentum"] * self.velocity[w] + d if w in self.velocity else d.clone()
                self.velocity[w] = v
                w -= group["lr"] * v
