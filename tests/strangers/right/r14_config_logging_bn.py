"""A training step as found in a larger code base: config, logging, batch-norm care."""
from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator

import torch
from torch import nn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SamConfig:
    rho: float = 0.05
    eps: float = 1e-12
    max_grad_norm: float | None = None
    use_amp: bool = False


@contextmanager
def frozen_running_stats(model: nn.Module) -> Iterator[None]:
    """Batch statistics are still used; the running ones do not move."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    saved = [m.track_running_stats for m in layers]
    try:
        for m in layers:
            m.track_running_stats = False
        yield
    finally:
        for m, flag in zip(layers, saved):
            m.track_running_stats = flag


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, loss_fn, batch, hyper) -> float:
    cfg = SamConfig(rho=hyper.rho)
    x, y = batch
    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(model(x), y)
    loss.backward()

    with torch.no_grad():
        parts = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        norm = torch.stack(parts).norm()
        backup = {p: p.detach().clone() for p in model.parameters() if p.grad is not None}
        for p in backup:
            p.add_(cfg.rho * p.grad / (norm + cfg.eps))
    log.debug("loss %.4f, gradient norm %.3e", loss.item(), norm.item())

    optimizer.zero_grad(set_to_none=True)
    with frozen_running_stats(model):
        sharp = loss_fn(model(x), y)
        sharp.backward()
    log.debug("sharpness %.3e", (sharp - loss).item())
    with torch.no_grad():
        for p, old in backup.items():
            p.copy_(old)
    if cfg.max_grad_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
    optimizer.step()
    return loss.item()
