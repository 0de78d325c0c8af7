"""What is seen of mixed precision: gradient scalers, and passes under torch.autocast.

A step is judged without autocast's rounding: it is seen where it is on, and kept off. (It would
leave float64 alone in any case.) What only its rounding shows has a probe, in
probes/mixed_precision.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from rsam_ref.conformance.observe.observer import Step

_entered: list[str | None] = []
"""For each block of torch.autocast that the running code is in, what it brings things to."""


def lowered_to() -> str | None:
    """The type that torch.autocast brings things to here, were it on; None where it is not."""
    return _entered[-1] if _entered else None


@contextmanager
def autocast_watched(*, off: bool) -> Iterator[None]:
    """Inside, blocks of torch.autocast are known of; where they are ``off``, they do nothing."""
    kind: Any = torch.autocast
    enter, leave = kind.__enter__, kind.__exit__
    meant: list[bool] = []

    def enters(block: Any) -> Any:
        lower = str(block.fast_dtype).removeprefix("torch.")
        _entered.append(lower if block._enabled else None)
        meant.append(block._enabled)
        block._enabled = block._enabled and not off
        return enter(block)

    def leaves(block: Any, *error: Any) -> Any:
        _entered.pop()
        block._enabled = meant.pop()
        return leave(block, *error)

    kind.__enter__, kind.__exit__ = enters, leaves
    try:
        yield
    finally:
        kind.__enter__, kind.__exit__ = enter, leave
        _entered.clear()


def runs_with_others(net: Any, x: torch.Tensor, out: torch.Tensor) -> bool:
    """Whether these outputs are not those of the network's weights.

    Autocast keeps the lowered weights until its outermost block ends, whatever happens to the
    weights in between.
    """
    kept = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.no_grad():
            return not torch.equal(out, net.layers(x))
    finally:
        torch.set_autocast_cache_enabled(kept)


@contextmanager
def scalers_watched(seen: Step) -> Iterator[None]:
    """Inside, what a gradient scaler is used for is written down."""
    kind: Any = torch.amp.GradScaler
    scale, update = kind.scale, kind.update

    def scales(scaler: Any, outputs: Any) -> Any:
        scaled = scale(scaler, outputs)
        if all(scaler is not other for other in seen.scaler.scalers):
            seen.scaler.scalers.append(scaler)
        if scaler.is_enabled():
            seen.scaler.factors.append(float(scaler.get_scale()))
        return scaled

    def updates(scaler: Any, *given: Any, **named: Any) -> None:
        update(scaler, *given, **named)
        seen.scaler.updates += 1

    kind.scale, kind.update = scales, updates
    try:
        yield
    finally:
        kind.scale, kind.update = scale, update
