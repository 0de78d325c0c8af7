"""Sharpness-aware minimisation with a better behaved second gradient."""
import torch


class SAM(torch.optim.SGD):
    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, rho=0.05, alpha=0.4):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.alpha = alpha
        for group in self.param_groups:
            group.setdefault("rho", rho)

    def _iter(self):
        return ((g, p) for g in self.param_groups for p in g["params"] if p.grad is not None)

    @torch.no_grad()
    def ascent_step(self):
        norm = torch.stack([p.grad.norm() for _, p in self._iter()]).norm()
        self.mem = {}
        for g, p in self._iter():
            self.mem[p] = (p.clone(), p.grad.clone())
            p.add_(p.grad, alpha=float(g["rho"] / (norm + 1e-12)))

    @torch.no_grad()
    def descent_step(self):
        inner = new_sq = old_sq = 0.0
        for _, p in self._iter():
            if p in self.mem:
                inner = inner + (p.grad * self.mem[p][1]).sum()
                new_sq = new_sq + p.grad.square().sum()
                old_sq = old_sq + self.mem[p][1].square().sum()
        cosine = inner / ((new_sq * old_sq) ** 0.5 + 1e-12)
        for _, p in self._iter():
            if p in self.mem:
                vertical = self.mem[p][1] - cosine * old_sq ** 0.5 * p.grad / (new_sq ** 0.5 + 1e-12)
                p.grad = p.grad - self.alpha * vertical
        for p, (w, _) in self.mem.items():
            p.copy_(w)
        super().step()
