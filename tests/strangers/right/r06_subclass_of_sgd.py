from typing import Callable

import torch
from torch import Tensor
from torch.optim import SGD


class SharpnessAwareSGD(SGD):
    def __init__(self, params, lr: float = 1e-2, *, rho: float = 0.05, momentum: float = 0.0,
                 weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)
        self.defaults["rho"] = rho
        for group in self.param_groups:
            if "rho" not in group:
                group["rho"] = rho

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        with torch.enable_grad():
            loss = closure()
        snapshot: dict[Tensor, Tensor] = {}
        with torch.no_grad():
            squares = [p.grad.square().sum() for g in self.param_groups for p in g["params"] if p.grad is not None]
            norm = torch.stack(squares).sum().sqrt() if squares else torch.tensor(0.0)
            for group in self.param_groups:
                for p in group["params"]:
                    snapshot[p] = p.detach().clone()
                    if p.grad is not None:
                        p.addcdiv_(p.grad * group["rho"], (norm + 1e-12).expand_as(p))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for p, value in snapshot.items():
                p.copy_(value)
        super().step()
        return loss
