"""How a step on NumPy arrays is called, and the function of the loss that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rsam_ref.conformance.observe.array_layouts import LISTS
from rsam_ref.conformance.observe.given_back import GivenBack
from rsam_ref.conformance.observe.observer import BrokenError


@dataclass(frozen=True)
class Way:
    """How a step is called, and what it gives back once that is known."""

    layout: str = LISTS
    """What weights and gradients are to it."""
    order: int = 0
    """Which of the orders that its parameters' names allow."""
    alone: bool | None = None
    """Whether it is given gradients without the loss; None: as the name says."""
    back: GivenBack | None = None
    other_base: bool = False
    """Whether a base is given as a class where its name says an object, or the reverse."""
    zeros: bool = False
    """Whether an optional velocity is zeros at first: nothing beside the weights comes back."""

    def __str__(self) -> str:
        return self.layout


class Oracle:
    """``loss_and_grad`` as a step gets it: it tells this project's R-SAM what the filters are."""

    def __init__(self, shapes: list[tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.ask: Callable[..., Any] | None = None

    def __call__(self, *weights: Any, **_: Any) -> Any:
        if self.ask is None:
            raise BrokenError("loss_and_grad was called outside of a step")
        return self.ask(*weights[:1])

    def begin_step(self) -> None:
        """There are no statistics that a step moves."""

    def abandon_step(self) -> None:
        """There is nothing to put back."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Oracle:
        return Oracle(self.shapes)
