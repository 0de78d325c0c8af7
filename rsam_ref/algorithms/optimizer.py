"""What an optimizer on one flat vector is: ``step(loss_and_grad, w) -> Trace``.

It finds a gradient, moves ``w`` in place by it, and returns every quantity of the step. The base
optimizers (base.py) find the gradient at w; SAM and R-SAM (optimizers.py) find another one, and
leave the move to their base. So momentum, weight decay and the learning rate act at w, and with
``rho = 0`` they are their base.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

from rsam_backends import require_here
from rsam_backends.base import Array, kind_of, package_of
from rsam_ref.algorithms.protocol import one_step
from rsam_ref.algorithms.sam import LossAndGrad, Trace
from rsam_ref.algorithms.schedules import Schedule

Number = float | Schedule
"""A setting: one number for all steps, or a function of the step."""


ELSEWHERE = {
    "torch": "rsam_ref.pytorch has the optimizers for PyTorch",
    "jax": "rsam_ref.jax has the optimizers for JAX",
    "jaxlib": "rsam_ref.jax has the optimizers for JAX",
}
"""Where vectors of other libraries are moved."""


class Optimizer(ABC):
    """Something that takes steps. ``steps`` counts those taken; schedules are read at it."""

    steps: int = 0

    @abstractmethod
    def find(self, loss_and_grad: LossAndGrad, w: Array) -> Trace:
        """The gradient to move by, and how it was found; w is not changed."""

    @abstractmethod
    def move(self, w: Array, gradient: Array) -> None:
        """Change w in place by a gradient."""

    def step(self, loss_and_grad: LossAndGrad, w: Array) -> Trace:
        """One step on the flat weights w (P,), in place.

        A `Stepwise` function, as `rsam_ref.objective` gives it, is told that a new step begins, so
        that batch norm's statistics move once and dropout's masks are the same in both passes. If
        a pass fails, w, the optimizer and batch norm's statistics are as before.
        """
        if not hasattr(w, "shape"):
            raise TypeError(
                f"w is one flat vector of weights, not {kind_of(w)}; of a model it is "
                "step(f, model.weights.flat)"
            )
        if len(w.shape) != 1:  # of a matrix, v @ v would be no length
            raise ValueError(f"w is one flat vector of weights, not of shape {tuple(w.shape)}")
        require_here(w, "w", ELSEWHERE.get(package_of(w), ""))
        with one_step(loss_and_grad):
            trace = self.find(loss_and_grad, w)
            self.move(w, trace.gradient)
        self.steps += 1
        return trace

    def of_worker(self, number: int) -> Self:
        """Itself as the worker of this number finds its own gradient (see workers.py)."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, besides w and the settings."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.steps = int(state["steps"])
