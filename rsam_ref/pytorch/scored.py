"""Loss and accuracy of a torch model at any weights, as `rsam_ref.sharpness.scored` has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rsam_ref.pytorch.batches import count_samples
from rsam_ref.pytorch.network import Network
from rsam_ref.pytorch.objectives import Loss, Objective


class NetworkScored:
    """A network on batches; the model stays as it is, bit for bit.

    Layers with running statistics take those of each batch, all else is in evaluation mode.
    """

    def __init__(self, network: Network, batches: list[Any]) -> None:
        self._objective = _ByTheBatch(
            network.model,
            network.loss,
            batches,
            batch_statistics=False,
            dtype=network.dtype,
            seed=0,
            forward=network.forward,
            count=network.count,
        )
        count = network.count or count_samples
        norms = any(_keeps_statistics(module) for module in network.model.modules())
        self.together = max(map(count, batches)) if norms else None

    def __call__(self, w: Tensor) -> tuple[float, float | None]:
        """The mean loss at w (P,), and the share that is taken for what it is."""
        with torch.no_grad():
            losses, rights = zip(*self._objective.each(w, _look))
        shares = self._objective.shares
        loss = sum(share * float(value) for share, value in zip(shares, losses))
        if None in rights:
            return loss, None
        return loss, sum(share * right for share, right in zip(shares, rights))


class _ByTheBatch(Objective):
    """An objective whose layers with running statistics take the batch's."""

    @property
    def shares(self) -> list[float]:
        """The share of all samples that each batch holds."""
        return self._shares

    def _training(self, module: nn.Module) -> bool:
        return _keeps_statistics(module)


def _keeps_statistics(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None


def _look(output: Any, target: Any, loss: Loss, leaf: Tensor) -> tuple[Tensor, float | None]:
    """The loss, and the share right where scores (N, K) meet classes (N,)."""
    value = loss(output, target)
    classes = (
        isinstance(output, Tensor)
        and isinstance(target, Tensor)
        and output.ndim == 2
        and target.shape == output.shape[:1]
        and not target.is_floating_point()
    )
    if not classes:
        return value, None
    right = torch.isfinite(output).all(1) & (output.argmax(1) == target)
    return value, float(right.double().mean())
