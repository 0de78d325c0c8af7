import contextlib

import torch
from torch.optim import SGD


class SAM(SGD):
    """loss = optimizer.step(closure), as with LBFGS. The loss that step returns is the training loss."""

    def __init__(self, params, lr=1e-2, momentum=0.0, weight_decay=0.0, *, rho=0.05):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("rho", rho)

    @contextlib.contextmanager
    def perturbed(self):
        items = [(g, p) for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for _, p in items])) if items else 1.0
        kept = [p.clone() for _, p in items]
        for g, p in items:
            p.add_(p.grad * g["rho"] / (norm + 1e-12))
        try:
            yield
        finally:
            for (_, p), k in zip(items, kept):
                p.copy_(k)

    @torch.no_grad()
    def step(self, closure):
        loss = None
        evaluate = torch.enable_grad()(closure)
        self.zero_grad()
        loss = evaluate()
        with self.perturbed():
            self.zero_grad()
            loss = evaluate()
        super().step()
        return loss
