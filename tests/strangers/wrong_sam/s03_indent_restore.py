from typing import Dict, Iterable, Optional

import torch
from torch import Tensor
from torch.optim import SGD


class SharpnessAwareSGD(SGD):
    """SGD whose gradient is taken at the worst point nearby."""

    def __init__(self, params: Iterable, lr: float, momentum: float = 0.0, weight_decay: float = 0.0,
                 rho: float = 0.05) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("rho", rho)
        self._origin: Dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def ascent_step(self) -> None:
        self._origin = {}
        total = torch.zeros(())
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    total = total + p.grad.double().pow(2).sum()
        length = total.sqrt() + 1e-12
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._origin[p] = p.clone()
                    p.add_((group["rho"] / length).to(p.dtype) * p.grad)

    @torch.no_grad()
    def descent_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                origin: Optional[Tensor] = self._origin.get(p)
            if origin is not None:
                p.copy_(origin)
        super().step()
