import math
from typing import Callable, List, Optional

import torch
from torch import Tensor


class RandomSAM(torch.optim.SGD):
    """R-SAM on top of torch's SGD; the draws come from a generator of its own, which is saved."""

    def __init__(self, params, lr: float = 0.1, momentum: float = 0.0, weight_decay: float = 0.0,
                 rho: float = 0.05, sigma: float = 1e-3, lam: float = 1.0, seed: int = 0):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            for key, value in (("rho", rho), ("sigma", sigma), ("lam", lam)):
                group.setdefault(key, value)
        self.generator = torch.Generator().manual_seed(seed)

    @staticmethod
    def _scale(p: Tensor) -> Tensor:
        if p.ndim < 2:
            return torch.linalg.vector_norm(p)
        return torch.linalg.vector_norm(p, dim=tuple(range(1, p.ndim)), keepdim=True)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Tensor]] = None):
        if closure is None:
            raise ValueError("RandomSAM.step needs a closure")
        origin: List[Tensor] = []
        noises: List[Tensor] = []
        flat = [(group, p) for group in self.param_groups for p in group["params"]]
        for group, p in flat:
            z = torch.empty(p.shape, dtype=p.dtype).normal_(generator=self.generator).to(p.device)
            origin.append(p.clone())
            noises.append(z.mul_(self._scale(p)).mul_(group["sigma"]))
            p.add_(noises[-1])

        with torch.enable_grad():
            loss = closure()

        total = 0.0
        for (group, p), d in zip(flat, noises):
            if p.grad is not None:
                d.add_(p.grad, alpha=group["lam"])
            total += float(d.pow(2).sum())
        for (group, p), a, w in zip(flat, noises, origin):
            p.copy_(w).add_(a, alpha=group["rho"] / (math.sqrt(total) + 1e-12))
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for (_, p), w in zip(flat, origin):
            p.copy_(w)
        super().step()
        return loss

    def state_dict(self):
        return {**super().state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state_dict):
        state_dict = dict(state_dict)
        self.generator.set_state(state_dict.pop("generator"))
        super().load_state_dict(state_dict)
