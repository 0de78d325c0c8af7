"""From a loss of a tree and batches to ``loss_and_grad(w)`` of one flat vector, and its Hessian.

The Hessian's product with a vector is the derivative of the gradient along it, forward over
reverse, and so exact to rounding. A kink counts as smooth, as it does for every gradient: that is
the Hessian of the branch that the network is on at w, so ReLUs and pooled windows are held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rsam_backends.base import kind_of
from rsam_ref.batched import Batched, dealt
from rsam_ref.jax.axes import OutputAxis
from rsam_ref.jax.batches import as_batches, count_samples, every, joined, lengths_in, placed
from rsam_ref.jax.flat import Layout
from rsam_ref.jax.vectors import Tree

Loss = Callable[[Tree, Any], Any]
UNTRACEABLE = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


class Objective(Batched):
    """The mean of a loss over the samples of batches, as a function of w (P,).

    Calling it gives loss and gradient; `objective` makes one and says how.
    """

    def __init__(
        self, loss: Loss, params: Tree, batches: Any, *, output_axis: OutputAxis, dtype: Any
    ) -> None:
        if not callable(loss):
            raise TypeError(f"the loss is {kind_of(loss)}: give a function(params, batch)")
        if dtype is not None and jnp.dtype(dtype) not in (jnp.float32, jnp.float64):
            raise ValueError(f"dtype is float32 or float64, not {dtype}")
        if dtype is not None and jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
            raise ValueError(
                'JAX has no float64 as it is set up: jax.config.update("jax_enable_x64", True)'
            )
        self.layout = Layout(params, output_axis)
        self.shapes = self.layout.shapes
        """The shapes of the leaves in w, in their order, outputs first."""
        self.names = self.layout.names
        self._cast = dtype
        self.dtype = self.layout.dtype if dtype is None else jnp.dtype(dtype)
        self._params = params

        def at(w: Any, batch: Any) -> Any:
            try:
                return _checked(loss(self.parameters(w), batch))
            except UNTRACEABLE as error:
                raise TypeError(
                    "the loss cannot be traced by JAX, since it asks for numbers that are not "
                    "there yet: without float(), item(), np.asarray() and if on arrays "
                    f"({type(error).__name__})"
                ) from None

        def product(w: Any, v: Any, batch: Any) -> Any:
            return jax.jvp(lambda w: jax.grad(at)(w, batch), (w,), (v,))[1]

        self.uncompiled = at
        self._loss, self._pair, self._product = map(jax.jit, (at, jax.value_and_grad(at), product))
        self._take(batches)

    def _read(self, given: Any) -> list[Any]:
        return as_batches(given)

    def _placed(self, batch: Any) -> Any:
        return placed(batch, self._cast)

    def _weight(self, batch: Any) -> int:
        return count_samples(batch)

    _samples = _weight

    def _dealt(self, count: int) -> list[list[Any]] | None:
        return dealt(self._batches, count, lengths_in, every, joined)

    @property
    def w(self) -> Any:
        """The weights of params, a new vector (P,)."""
        return self.layout.vector(self._params, self.dtype)

    def vector(self, params: Tree) -> Any:
        """The weights of a tree like params as a vector like w (P,), as `parameters` has them."""
        return self.layout.vector(params, self.dtype)

    def parameters(self, w: Any) -> Tree:
        """A tree like params with the weights of a vector (P,)."""
        return self.layout.tree(w, own_types=self._cast is None)

    def __call__(self, w: Any) -> tuple[Any, Any]:
        """The loss at w and its gradient, a vector (P,)."""
        w = self._vector(w)
        found = [self._pair(w, batch) for batch in self._batches]
        losses, gradients = zip(*found)
        return self._mean(losses), self._mean(gradients)

    def loss(self, w: Any) -> Any:
        """The loss at w."""
        w = self._vector(w)
        return self._mean([self._loss(w, batch) for batch in self._batches])

    def hessian_product(self, w: Any, v: Any) -> Any:
        """The Hessian at w times v (P,)."""
        w, v = self._vector(w), self._vector(v)
        return self._mean([self._product(w, v, batch) for batch in self._batches])

    def _mean(self, values: Sequence[Any]) -> Any:
        first, *others = (share * value for share, value in zip(self._shares, values))
        return sum(others, start=first)

    def _vector(self, w: Any) -> Any:
        if getattr(w, "shape", None) != (self.layout.size,):
            raise ValueError(
                f"a vector of shape {getattr(w, 'shape', ())}, but the tree has {self.layout.size} "
                "weights: give one like objective.w"
            )
        return jnp.asarray(w, self.dtype)


def _checked(value: Any) -> Any:
    remedy = "give a function of params and batch that returns the mean over the samples alone"
    if isinstance(value, tuple | list | dict):
        raise ValueError(f"the loss gives {kind_of(value)}, not one number: {remedy}")
    value = jnp.asarray(value)
    if value.ndim or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"the loss is an array of shape {value.shape} of {value.dtype}, not one real number: "
            f"{remedy}"
        )
    return value


def objective(
    loss: Loss,
    params: Tree,
    batches: Any,
    *,
    output_axis: OutputAxis = 0,
    dtype: Any = None,
) -> Objective:
    """``loss_and_grad`` of one flat vector, for `sam_gradient` and every measure of flatness.

    ``w`` is the vector of params, each leaf with its outputs first; ``loss`` the loss alone,
    ``hessian_product(w, v)`` exact, ``shapes`` what `filter_noise` asks for, ``parameters(w)`` the
    tree of a vector, and ``vector(params)`` the vector of a tree.

    Parameters
    ----------
    loss:
        a function of params and a batch that gives the mean over the batch, which jit can trace.
        What it closes over, statistics and keys of dropout, is the same in every call.
    params:
        a tree; its floating and complex leaves, Python's numbers too, are w, all others stay what
        they are.
    batches:
        a batch, a list of them, or a loader, which is gone through once and kept. Batches count by
        their samples, the length of their last array.
    output_axis:
        which axes of a leaf count its filters, as for `filter_norms`.
    dtype:
        float64, which asks for ``jax_enable_x64``, or float32: compute in it; by default in the
        leaves' own types.

    Raises ValueError and TypeError, with one line, for a tree without weights, a batch without
    samples, a loss of another kind.

    >>> loss = lambda params, batch: jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2)
    >>> f = objective(loss, {"w": jnp.ones((2, 3))}, (jnp.ones((4, 2)), jnp.zeros((4, 3))))
    >>> value, gradient = f(f.w)
    >>> float(value), gradient.shape
    (4.0, (6,))
    """
    return Objective(loss, params, batches, output_axis=output_axis, dtype=dtype)
