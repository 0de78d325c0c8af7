import torch


class SAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, rho=0.05, momentum=0.9, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, rho=rho, momentum=momentum, weight_decay=weight_decay))
        self.lr = lr

    def grads(self):
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is not None:
                    yield g, p, self.state[p]

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        norm = torch.tensor([float(p.grad.norm()) for _, p, _ in self.grads()], dtype=torch.float64).norm().item()
        self.w0 = []
        for g, p, _ in self.grads():
            self.w0.append((p, p.data.clone()))
            p.add_(p.grad, alpha=g["rho"] / (norm + 1e-12))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self.w0:
            p.data = w
        for g, p, s in self.grads():
            d = p.grad.add(p, alpha=g["weight_decay"])
            if "v" not in s:
                s["v"] = torch.zeros_like(p)
            s["v"].mul_(g["momentum"]).add_(d)
            p.add_(s["v"], alpha=-self.lr)
        if zero_grad:
            self.zero_grad()
