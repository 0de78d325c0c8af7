"""What the last step saw, for logs: its losses and norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class StepTrace:
    """The losses and norms of one step. Norms are on the device: reading one waits for it."""

    loss: Any
    """What the closure returned in the first pass; None where the parts were called."""
    adversarial_loss: Any
    """The same in the second pass: the loss at w + eps."""
    ascent_norm: Tensor
    """||g0||; of ASAM ||T g0||, of R-SAM ||a||."""
    gradient_norm: Tensor | None
    """||g|| before it was clipped; None without ``max_grad_norm``."""


def detached(loss: Any) -> Any:
    """A loss without its graph, which would keep memory."""
    return loss.detach() if isinstance(loss, Tensor) else loss
