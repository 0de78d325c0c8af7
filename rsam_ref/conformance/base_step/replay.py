"""Stepping a copy of the implementation's own base optimizer on a shadow of its weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsam_ref.conformance.observe.base import Base, Settings

Vector = np.ndarray


def replayed(
    base: Base,
    starts: Sequence[Vector],
    gradients: Sequence[Vector | Sequence[Vector]],
    settings: Sequence[Settings],
) -> list[Vector]:
    """Where a fresh shadow ends in every step, from these weights with these gradients.

    Several gradients in one step are several base steps, one after the other.
    """
    shadow = base.shadow()
    ends = []
    for w, g, of_step in zip(starts, gradients, settings):
        for one in [g] if isinstance(g, np.ndarray) else g:
            w = shadow.step(w, one, of_step)
        ends.append(w)
    return ends
