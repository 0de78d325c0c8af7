"""SAM that takes its ascent gradient from tensor hooks, so that the loop may zero .grad as it likes."""
import torch


class HookSAM(torch.optim.SGD):
    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, rho=0.05):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.seen = {}
        for g in self.param_groups:
            g.setdefault("rho", rho)
            for p in g["params"]:
                p.register_hook(self._hook(p))

    def _hook(self, p):
        def remember(grad):
            self.seen[p] = grad.detach().clone()
        return remember

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        norm = torch.sqrt(sum((g.square().sum() for g in self.seen.values()), torch.tensor(0.0)))
        self.old = []
        for group in self.param_groups:
            for p in group["params"]:
                if p in self.seen:
                    self.old.append((p, p.clone()))
                    p.add_(self.seen[p] * (group["rho"] / (norm + 1e-12)))
        self.seen.clear()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for p, w in self.old:
            p.copy_(w)
        self.seen.clear()
        super().step()
        if zero_grad:
            self.zero_grad()
