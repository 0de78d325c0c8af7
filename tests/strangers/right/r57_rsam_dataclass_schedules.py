from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Callable, Iterable, Mapping, Union

import torch
from torch import Tensor, nn

logger = logging.getLogger("rsam")
Schedule = Union[float, Callable[[int], float]]


def at(value: Schedule, step: int) -> float:
    return float(value(step)) if callable(value) else float(value)


@dataclass
class RSAMConfig:
    rho: Schedule = 0.05
    sigma: Schedule = 1e-3
    lam: Schedule = 1.0
    eps: float = 1e-12
    log_every: int = 0


@dataclass
class _Slot:
    param: nn.Parameter
    value: Tensor
    noise: Tensor = field(repr=False)


class RSAM(torch.optim.SGD):
    def __init__(self, params: Iterable, config: RSAMConfig, lr: float, momentum: float = 0.0,
                 weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.config, self.steps = config, 0

    def _slots(self, sigma: float) -> list[_Slot]:
        slots = []
        for group in self.param_groups:
            for p in group["params"]:
                value = p.detach().clone()
                rows = value.flatten(1) if value.dim() > 1 else value.reshape(1, -1)
                noise = (sigma * rows.norm(dim=1, keepdim=True) * torch.randn_like(rows)).view_as(value)
                slots.append(_Slot(p, value, noise))
        return slots

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        c = self.config
        rho, sigma, lam = at(c.rho, self.steps), at(c.sigma, self.steps), at(c.lam, self.steps)
        slots = self._slots(sigma)
        with torch.no_grad():
            for s in slots:
                s.param.add_(s.noise)
        self.zero_grad()
        loss = closure()
        ascent = [s.noise if s.param.grad is None else torch.add(s.noise, s.param.grad, alpha=lam) for s in slots]
        norm = torch.stack([a.square().sum() for a in ascent]).sum().sqrt()
        with torch.no_grad():
            for s, a in zip(slots, ascent):
                s.param.copy_(s.value + rho * a / (norm + c.eps))
        self.zero_grad()
        closure()
        with torch.no_grad():
            for s in slots:
                s.param.copy_(s.value)
        super().step()
        self.steps += 1
        if c.log_every and self.steps % c.log_every == 0:
            logger.info("step %d: loss at w + D %.5f, |a| %.3e", self.steps, loss.item(), norm.item())
        return loss

    def state_dict(self) -> dict:
        return dict(super().state_dict(), steps=self.steps)

    def load_state_dict(self, state_dict: Mapping) -> None:
        state_dict = dict(state_dict)
        self.steps = state_dict.pop("steps")
        super().load_state_dict(state_dict)


def make(params, hyper):
    return RSAM(params, RSAMConfig(rho=hyper.rho, sigma=hyper.sigma, lam=hyper.lam), lr=hyper.lr,
                momentum=hyper.momentum, weight_decay=hyper.weight_decay)
