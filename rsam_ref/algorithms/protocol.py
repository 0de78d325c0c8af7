"""What an optimizer asks of a function besides ``loss_and_grad(w)``, and the step it then takes.

A plain function of w will do where nothing is lost by it. What has more to say says it by a
`Stepwise`: which weights make a filter (R-SAM's draw), and where a step begins (batch norm's
statistics move once a step, dropout's masks last for one). `rsam_ref.objective` gives such a one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, cast

from rsam_ref.algorithms.sam import LossAndGrad

Shapes = Sequence[tuple[int, ...]]


class Stepwise(Protocol):
    """A ``loss_and_grad`` that knows its weights' shapes and is told of every step."""

    shapes: Shapes
    """The parameters' shapes, in the order in which they lie in w."""

    def __call__(self, w: Any) -> tuple[Any, Any]:
        """The loss at w, and its gradient."""
        ...

    def begin_step(self) -> None:
        """The next call is the first pass of a new step."""

    def abandon_step(self) -> None:
        """The step failed: whatever it has changed is as it was when it began."""


MEMBERS = ("shapes", "begin_step", "abandon_step")

_step: ContextVar[object | None] = ContextVar("step", default=None)


def step_under_way() -> object | None:
    """What stands for the step that is being taken; None outside of one."""
    return _step.get()


def stepwise(loss_and_grad: LossAndGrad) -> Stepwise | None:
    """The function if it is a `Stepwise`, None if it is plain; TypeError for half of one."""
    missing = [name for name in MEMBERS if not hasattr(loss_and_grad, name)]
    if not missing:
        return cast(Stepwise, loss_and_grad)
    if len(missing) < len(MEMBERS):
        raise TypeError(
            f"this {type(loss_and_grad).__name__} has no {' and no '.join(missing)}: a function "
            f"that is told of steps has {', '.join(MEMBERS)} (algorithms.protocol.Stepwise)"
        )
    return None


@contextmanager
def one_step(loss_and_grad: LossAndGrad) -> Iterator[None]:
    """A block that is one step on this function, which hears of its beginning and of a failure."""
    told = stepwise(loss_and_grad)
    token = _step.set(object())
    try:
        if told is not None:
            told.begin_step()
        yield
    except BaseException:
        if told is not None:
            told.abandon_step()
        raise
    finally:
        _step.reset(token)
