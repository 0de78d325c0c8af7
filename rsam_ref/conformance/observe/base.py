"""The implementation's own base optimizer, stepped on a shadow of its weights.

What an implementation steps with is its own affair: AdamW, RMSprop, groups with their own rates, a
schedule inside. So no formula is asked for: a copy of its base optimizer, as it was before the
first step, is given the observed weights and gradients, and must land where the implementation did.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Vector = np.ndarray
Settings = list[dict[str, Any]]
"""The settings of every parameter group, without the parameters."""


class Shadow(Protocol):
    """A base optimizer on weights of its own, with a state of its own."""

    def step(self, w: Vector, g: Vector, settings: Settings) -> Vector:
        """Where a step from w (P,) with the gradient g (P,) ends: (P,)."""


class Base(Protocol):
    """A base optimizer that was found in an implementation."""

    name: str
    """Its class."""

    def shadow(self) -> Shadow:
        """A fresh one, as it was before the first step."""


@dataclass
class BaseSeen:
    """The base optimizer of a step, as far as it is known."""

    base: Base | None = None
    settings: Settings = field(default_factory=list)
    """Its groups' settings when it made its step."""
    hints: dict[str, Any] = field(default_factory=dict)
    """Numbers that the implementation holds, by name: its betas, a length to clip to."""
