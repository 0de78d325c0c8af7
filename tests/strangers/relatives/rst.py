import torch
from torch.optim import SGD


class RST(SGD):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0, rho=0.05, p=0.5):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.defaults.update(rho=rho, p=p)
        for group in self.param_groups:
            group.setdefault("rho", rho)
            group.setdefault("p", p)

    def _flip(self):
        return torch.rand(()).item() < self.param_groups[0]["p"]

    @torch.no_grad()
    def step(self, closure):
        use_sam = self._flip()
        with torch.enable_grad():
            self.zero_grad()
            loss = closure()
        if use_sam:
            backup = self._climb()
            with torch.enable_grad():
                self.zero_grad()
                closure()
            for w, old in backup:
                w.copy_(old)
        super().step()
        return loss

    def _climb(self):
        norms = [
            w.grad.double().norm() for group in self.param_groups for w in group["params"] if w.grad is not None
        ]
        if not norms:
            return []
        norm = torch.stack(norms).norm().item()
        backup = []
        for group in self.param_groups:
            factor = group["rho"] / (norm + 1e-12)
            for w in group["params"]:
                if w.grad is not None:
                    backup.append((w, w.clone()))
                    w.add_(w.grad * factor)
        return backup
