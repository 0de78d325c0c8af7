"""A torch model's scores as a function of one vector, with their derivative J and its transpose.

Gauss-Newton's matrix and the empirical Fisher are made of them (`rsam_ref.sharpness.outputs`). The
model stays as it is, as for its `Objective`.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rsam_ref.pytorch.derivatives import twice_differentiable
from rsam_ref.pytorch.interrupts import noted_until_done
from rsam_ref.pytorch.objectives import Loss, Objective

OTHER = (
    "gauss-newton is for the softmax cross-entropy of outputs (N, K), the mean over N samples; {}: "
    "name other measures"
)


CLOSE = {torch.float32: 1e-3, torch.float64: 1e-8}
"""How far two ways may be apart, relative to the number that both compute."""


class Scores:
    """The outputs (N, K) of an objective's model on its batches, one after another."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._forward: bool | None = None  # whether J v can be had forward; None: not tried yet

    def __call__(self, w: Tensor) -> Tensor:
        """The outputs (N, K). Raises ValueError for outputs of another shape."""
        with noted_until_done(), torch.no_grad():
            return torch.cat(self.objective.each(w, lambda output, *_: _rows(output)))

    def pull(self, w: Tensor, r: Tensor) -> Tensor:
        """sum_n J_n^T r_n (P,) for vectors r (N, K), one a sample."""
        start = 0

        def back(output: Tensor, target: Any, loss: Loss, leaf: Tensor) -> list[Tensor]:
            nonlocal start
            own = r[start : start + len(output)].to(output)
            start += len(output)
            return list(torch.autograd.grad(output, leaf, own))

        with noted_until_done(), torch.enable_grad():
            return self.objective.added_up(w, back)[0]

    def push(self, w: Tensor, v: Tensor) -> Tensor:
        """J_n v (N, K) for every sample n, exact to rounding.

        By forward differentiation, a third of the other way's time, where every function of the
        model has it and it is the transpose of what `pull` computes. It may not be: of what a model
        computes under no_grad it knows nothing.
        """
        if self._forward is None:
            found = self._tried_forward(w, v)
            self._forward = found is not None
            if found is not None:
                return found
        return self._pushed(w, v) if self._forward else self._pulled_twice(w, v)

    def _tried_forward(self, w: Tensor, v: Tensor) -> Tensor | None:
        """r = J v by going forward; None where that fails, or r . J v is not J^T r . v."""
        try:
            r = self._pushed(w, v)
        except RuntimeError:  # a NotImplementedError among them
            return None
        square, again = float((r * r).sum()), float(self.pull(w, r) @ v)
        return r if abs(again - square) <= CLOSE[w.dtype] * square else None

    def _pushed(self, w: Tensor, v: Tensor) -> Tensor:
        with (
            noted_until_done(),
            warnings.catch_warnings(),
            forward_ad.dual_level(),
            torch.no_grad(),
            twice_differentiable(),
        ):
            warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)  # torch's own
            make_dual: Any = forward_ad.make_dual  # torch gives them no types
            unpack_dual: Any = forward_ad.unpack_dual
            dual = make_dual(w.detach(), v.to(w))
            outputs = self.objective.each(dual, lambda output, *_: unpack_dual(output))
            tangents = [
                torch.zeros_like(output.primal) if output.tangent is None else output.tangent
                for output in outputs
            ]
            return torch.cat(tangents)

    def _pulled_twice(self, w: Tensor, v: Tensor) -> Tensor:
        """J v by going back twice: u -> J^T u is linear, and its slope is J."""

        def forth(output: Tensor, target: Any, loss: Loss, leaf: Tensor) -> Tensor:
            u = torch.zeros_like(output, requires_grad=True)
            (pulled,) = torch.autograd.grad(output, leaf, u, create_graph=True)
            return torch.autograd.grad(pulled, u, v.to(pulled))[0]

        with noted_until_done(), torch.enable_grad(), twice_differentiable():
            return torch.cat(self.objective.each(w, forth))

    def targets(self, w: Tensor) -> Tensor:
        """The probabilities (N, K) that the loss holds the softmax of the scores against.

        They are what its derivative says they are, so smoothed and mixed labels are among them.
        Raises ValueError where the loss is not the mean of softmax cross-entropies.
        """
        with noted_until_done(), torch.enable_grad():
            found = self.objective.each(w, _targets)
        return torch.cat(found)

    def samples(self) -> list[Scores]:
        """Every sample alone. Raises ValueError where they cannot be told apart."""
        parts = self.objective.parts(len(self(self.objective.w)))
        if parts is None:
            raise ValueError(OTHER.format("the samples of these batches cannot be told apart"))
        return [Scores(part) for part in parts]


def _rows(output: Any) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != 2:
        shape = tuple(getattr(output, "shape", ()))
        raise ValueError(OTHER.format(f"these outputs have the shape {shape}"))
    return output


def _targets(output: Any, target: Any, loss: Loss, leaf: Tensor) -> Tensor:
    """softmax(z) - N dL/dz, if it is the same at other scores and gives the loss its value."""
    scores = _rows(output).detach()
    found: list[Tensor] = []
    for z in (scores, scores / 2):
        z = z.clone().requires_grad_()
        value = loss(z, target)
        (slope,) = torch.autograd.grad(value, z)
        logs = torch.log_softmax(z.detach(), 1)
        y = logs.exp() - len(z) * slope
        given, expected = float(value.detach()), float(-(y * logs).sum(1).mean())
        close = 1e-4 * (1 + given)
        if abs(given - expected) > close or any(
            float((y - other).abs().max()) > close for other in found
        ):
            raise ValueError(OTHER.format("this loss is another function"))
        found.append(y)
    return found[0]
