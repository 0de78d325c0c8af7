"""A gradient scaler's part in a step. It thinks of one gradient a step; here are two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Scaling:
    """The scaler of one step: a ``torch.amp.GradScaler``, one that is switched off, or None.

    The scaler knows the first gradient by the wrapper, the second one by the base.
    """

    def __init__(self, scaler: Any = None) -> None:
        if scaler is not None and not hasattr(scaler, "unscale_"):
            raise TypeError(f"scaler is a torch.amp.GradScaler, not {scaler!r}")
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None

    def unscale_first(self, wrapper: torch.optim.Optimizer) -> None:
        """Divide the first gradients by the scale; the scaler remembers whether they overflowed."""
        if self._scaler is not None:
            self._scaler.unscale_(wrapper)

    def base_step(
        self, base: torch.optim.Optimizer, length: Tensor, clip: Callable[[], Tensor] | None
    ) -> Tensor | None:
        """The base step with g, unscaled and clipped; returns the length of g before, if clipped.

        None is taken where a pass overflowed; ``length``, of the ascent, tells of the first one.
        """
        if self._scaler is None:
            clipped = None if clip is None else clip()
            base.step()
            return clipped
        if not torch.isfinite(length):
            return None
        clipped = None
        if clip is not None:
            self._scaler.unscale_(base)
            clipped = clip()
        self._scaler.step(base)
        return clipped

    def forget(self, *optimizers: torch.optim.Optimizer) -> None:
        """The step is abandoned: what the scaler unscaled for it does not count as unscaled.

        An overflow that it saw it still tells of in ``update()``.
        """
        states = getattr(self._scaler, "_per_optimizer_states", {})
        for optimizer in optimizers:
            if id(optimizer) in states:
                states[object()] = states.pop(id(optimizer))


def refuse_a_scalers_own_step(optimizer: torch.optim.Optimizer) -> None:
    """Raise RuntimeError where ``scaler.step(optimizer)`` is what called.

    It leaves these attributes at optimizers that unscale by themselves.
    """
    left = [optimizer.__dict__.pop(name, None) for name in ("grad_scale", "found_inf")]
    if any(value is not None for value in left):
        raise RuntimeError(
            f"scaler.step() knows of one gradient a step, and {type(optimizer).__name__} takes "
            "two: call step(closure, scaler=scaler), or first_step(scaler) and second_step()"
        )
