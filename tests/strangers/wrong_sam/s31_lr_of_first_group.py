"""SAM for fine-tuning: the backbone and the head may be given as two groups."""
import torch


class SAM(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01, momentum=0.9, weight_decay=1e-4, rho=0.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, rho=rho))

    @property
    def current_lr(self):
        return self.param_groups[0]["lr"]

    @torch.no_grad()
    def step(self, closure):
        closure = torch.enable_grad()(closure)
        self.zero_grad()
        loss = closure()
        todo = [(g, p) for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.cat([p.grad.ravel() for _, p in todo]).norm() if todo else 0.0
        olds = [p.clone() for _, p in todo]
        for g, p in todo:
            p.addcmul_(p.grad, g["rho"] / (norm + 1e-12))
        self.zero_grad()
        closure()
        for (_, p), old in zip(todo, olds):
            p.copy_(old)
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is None:
                    continue
                d = p.grad + g["weight_decay"] * p
                s = self.state[p]
                s["buf"] = g["momentum"] * s["buf"] + d if "buf" in s else d
                p -= self.current_lr * s["buf"]
        return loss
