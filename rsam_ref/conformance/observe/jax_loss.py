"""The problem's loss and outputs as functions that JAX traces, and what is seen of them.

Under `jax.jit` weights have no values, so the network is not computed by JAX: callbacks give loss
and gradient from the problem itself, and see at which weights. An evaluation counts where a
gradient is taken. The next one needs the result of this one, so they come in their order; a
gradient that nothing needs is left out by jit, and is then not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from rsam_ref.conformance.observe.jax_host import OnHost, explained, traced
from rsam_ref.conformance.observe.layouts import Layout, parts_of
from rsam_ref.conformance.observe.observer import MOST_EVALUATIONS, BrokenError, Evaluation
from rsam_ref.conformance.observe.problem import Problem
from rsam_ref.conformance.observe.samples import samples_of


class Watched:
    """Loss and outputs for one kind of tree and one layout.

    One of these serves all subjects of its kind, so that what JAX has compiled for one is used for
    the others; `watching` says whose step it is.
    """

    def __init__(self, like: Any, layout: Layout, *, has_aux: bool) -> None:
        self.treedef = jax.tree.structure(like)
        self.layout = layout
        self.problem = Problem()
        self.number = 0
        self.seen: list[Evaluation] = []
        self.errors: list[BrokenError] = []
        self._loss = self._traced_loss()
        self._outputs = self._traced_outputs()
        self.loss = self._with_aux if has_aux else self._alone

    @contextmanager
    def watching(self, problem: Problem, number: int, seen: list[Evaluation]) -> Any:
        """Inside, what is evaluated belongs to a step, and goes to ``seen``."""
        self.problem, self.number, self.seen, self.errors = problem, number, seen, []
        try:
            yield
        except Exception as error:
            if self.errors:  # JAX tells of an error in a callback in words of its own
                raise self.errors[0] from None
            raise explained(error, number) or error from None

    # As they are called

    def _alone(self, params: Any, *data: Any, **more: Any) -> Any:
        """The mean loss of a mini-batch, given in any form."""
        return self._loss(self._weights(params), self._inputs((data, more)))

    def _with_aux(self, params: Any, *data: Any, **more: Any) -> Any:
        """The loss, and the outputs beside it."""
        weights, x = self._weights(params), self._inputs((data, more))
        return self._loss(weights, x), self._outputs(jax.lax.stop_gradient(weights), x)

    def outputs(self, params: Any, *data: Any, **more: Any) -> Any:
        """The network's outputs (n, 5) for inputs (n, 2, 6, 6)."""
        return self._outputs(self._weights(params), self._inputs((data, more)))

    def _weights(self, params: Any) -> Any:
        if isinstance(params, dict) and set(params) == {"params"}:  # variables, as Flax has them
            params = params["params"]
        if jax.tree.structure(params) != self.treedef:
            raise BrokenError(
                f"the loss was called with {type(params).__name__} for its weights, and not with a "
                "tree like the params that the step was given"
            )
        return params

    def _inputs(self, data: Any) -> Any:
        leaves = [leaf for leaf in jax.tree.leaves(data) if np.ndim(leaf) == 4]
        if not leaves:
            raise BrokenError(
                "the loss was called without inputs of shape (n, 2, 6, 6): give it the whole batch "
                "that the step was given, or a part of its rows"
            )
        return leaves[0]

    # What they are on the host, with the weights as one vector w (P,) and inputs x

    def _traced_loss(self) -> Callable[..., Any]:
        on_host = OnHost(self._loss_at, self._gradient_at, self.flat, self.tree, self._remember)
        return traced(on_host, lambda params, x: ())

    def _traced_outputs(self) -> Callable[..., Any]:
        on_host = OnHost(self._outputs_at, self._vjp_at, self.flat, self.tree, self._remember)
        return traced(on_host, lambda params, x: (x.shape[0], self.problem.shapes[-1][0]))

    def _loss_at(self, w: np.ndarray, x: np.ndarray) -> np.ndarray:
        batch, rows = self._samples(x)
        return np.asarray(self.problem.loss_and_grad(w, batch, rows, self.number)[0])

    def _gradient_at(self, w: np.ndarray, x: np.ndarray, seed: np.ndarray) -> np.ndarray:
        batch, rows = self._samples(x)
        return seed * self.problem.loss_and_grad(w, batch, rows, self.number)[1]

    def _outputs_at(self, w: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self.problem.outputs(w, x)

    def _vjp_at(self, w: np.ndarray, x: np.ndarray, seed: np.ndarray) -> np.ndarray:
        return self.problem.outputs_vjp(w, x, seed)

    def _samples(self, x: np.ndarray) -> Any:
        try:
            return samples_of(self.problem, x, self.number)
        except BrokenError as error:
            self.errors.append(error)
            raise

    def _remember(self, w: np.ndarray, x: np.ndarray) -> None:
        samples = self._samples(x)
        if len(self.seen) >= MOST_EVALUATIONS:
            self.errors.append(
                BrokenError(f"step {self.number + 1} took more than {MOST_EVALUATIONS} gradients")
            )
            raise self.errors[-1]
        self.seen.append(Evaluation(w, *samples))

    def flat(self, params: Any) -> np.ndarray:
        """The weights of a tree as the problem has them, (P,) of float64."""
        parts = parts_of(jax.tree.map(lambda p: np.asarray(p, float), params))
        return self.problem.flat([self.layout.back(part) for part in parts])

    def tree(self, flat: np.ndarray, like: Any) -> Any:
        """A flat vector in the problem's order as a tree like another."""
        own = iter(self.layout.of(part) for part in self.problem.parts(flat))
        types = parts_of(jax.tree.map(lambda leaf: leaf.dtype, like))
        parts = [part.astype(dtype) for part, dtype in zip(own, types)]
        if isinstance(like, dict):
            return dict(zip(self.problem.names, parts))
        return [(weight, bias) for weight, bias in zip(parts[::2], parts[1::2])]
