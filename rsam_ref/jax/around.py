"""A transformation of optax around another one: it finds the gradient, and the base moves by it.

What a step's gradient is, ``find`` knows (optimizers.py); which weights take part, whose state it
is and over which devices it is averaged stands here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rsam_ref.algorithms.sam import Trace
from rsam_ref.jax import checks
from rsam_ref.jax.devices import Axes, apart, check_axes, check_each_own, each_own
from rsam_ref.jax.gradients import LossAndGrad
from rsam_ref.jax.parts import check_trainable, joined, mask_of, part_of
from rsam_ref.jax.vectors import Tree


class State(NamedTuple):
    """All that the next step depends on, besides the weights: arrays in a tree, to be saved."""

    step: Any
    """The steps taken."""
    key: Any
    """R-SAM's key, which stays: step t draws by ``jax.random.fold_in(key, t)``. None for SAM."""
    base: Any
    """The base optimizer's state."""


Find = Callable[[LossAndGrad, Tree, State, tuple[Any, ...]], Trace]


class SharpnessAware(optax.GradientTransformationExtraArgs):
    """What `sam` and `rsam` make: ``init`` and ``update`` of optax, and ``step``.

    ::

        state = tx.init(params)
        params, state, trace = tx.step(loss_and_grad, params, state, *args)

    takes a whole step: the gradients are those of ``loss_and_grad(params, *args)``, which is
    ``jax.value_and_grad(loss)`` or the like, and the base moves the weights. The trace holds every
    quantity of the step; what a compiled function does not return of it costs no memory. A base
    that asks for ``value``, such as ``optax.contrib.reduce_on_plateau``, gets the trace's loss.

    ::

        updates, state = tx.update(grads, state, params, grad_fn=grad_fn)

    is the form of ``optax.contrib.sam`` in its opaque mode: ``grad_fn(params, i)`` gives the
    step's i-th gradient. ``grads``, the gradient at params, is SAM's first one; R-SAM's lie
    elsewhere, so that it takes no notice of it, and None will do.
    """

    def step(
        self, loss_and_grad: LossAndGrad, params: Tree, state: State, *args: Any, **named: Any
    ) -> tuple[Tree, State, Trace]:
        """Take a whole step; returns the weights, the state and the trace."""
        if named:
            raise TypeError(
                "what the loss takes follows the state without names, "
                f"step(loss_and_grad, params, state, {', '.join(named)})"
            )
        wrapper = getattr(self.update, "__self__", None)
        if not isinstance(wrapper, _Wrapper):
            raise TypeError("update was replaced, and with it went the step; call update itself")
        return wrapper.step(loss_and_grad, params, state, *args)


def around(
    name: str,
    base: optax.GradientTransformationExtraArgs,
    find: Find,
    key: Any,
    trainable: Any,
    m_sharpness: Axes | None,
) -> SharpnessAware:
    """The transformation whose gradient ``find`` finds, and whose moves are the base's."""
    check_trainable(trainable)
    check_axes(m_sharpness)
    wrapper = _Wrapper(name, base, find, key, trainable, m_sharpness)
    return SharpnessAware(wrapper.init, wrapper.update)


@dataclass(frozen=True, eq=False)
class _Wrapper:
    name: str
    base: optax.GradientTransformationExtraArgs
    find: Find
    key: Any
    trainable: Any
    m_sharpness: Axes | None

    def init(self, params: Tree) -> State:
        """The state before the first step, none of whose arrays is anyone else's: it is donated."""
        if jax.tree.leaves(params):
            base = self.base.init(checks.as_weights(self._part(params)))
        else:  # a place for weights, of optax.tree.map_params
            base = self.base.init(params)
        checks.check_base_state(self.name, base)
        return jax.tree.map(_copied, State(jnp.zeros((), jnp.int32), self.key, base))

    def step(
        self, loss_and_grad: LossAndGrad, params: Tree, state: State, *args: Any
    ) -> tuple[Tree, State, Trace]:
        checks.check_function(loss_and_grad)
        if isinstance(params, State):
            raise TypeError("params is a state; the order is step(loss_and_grad, params, state)")
        trace = self._found(loss_and_grad, params, state, args)
        loss = trace.loss[0] if isinstance(trace.loss, tuple) else trace.loss
        updates, state = self._moved(trace, params, state, {"value": loss})
        moved = optax.apply_updates(self._part(params), updates)
        return joined(moved, params), state, trace

    def update(
        self, grads: Tree, state: State, params: Tree = None, *, grad_fn: Any = None, **extra: Any
    ) -> tuple[Tree, State]:
        self._check_asked(params, grad_fn)
        given = None if self.name == "rsam" else grads
        trace = self._found(_asked(grad_fn, given), params, state, (), checks.GRAD_FN)
        updates, state = self._moved(trace, params, state, extra)
        return joined(updates, jax.tree.map(jnp.zeros_like, params)), state

    def _part(self, params: Tree) -> Tree:
        """What is trained of it, and None for the rest."""
        return part_of(params, mask_of(self.trainable, params))

    def _found(
        self,
        loss_and_grad: LossAndGrad,
        params: Tree,
        state: State,
        args: tuple[Any, ...],
        asked: str = checks.LOSS_AND_GRAD,
    ) -> Trace:
        mask = mask_of(self.trainable, params)
        part = checks.as_weights(self._part(params))
        self._check_state(state, part)

        def of_part(w: Tree, *args: Any) -> tuple[Any, Tree]:
            result = loss_and_grad(joined(w, params), *args)
            pair = checks.pair_of(result, w, lambda tree: part_of(tree, mask), asked)
            if self.m_sharpness is not None:
                check_each_own(*pair, w, self.m_sharpness)
            return pair

        if self.m_sharpness is not None:
            part = each_own(part, self.m_sharpness)
            self._check_each(part, asked)
        return self.find(of_part, part, state, args)

    def _moved(
        self, trace: Trace, params: Tree, state: State, extra: dict[str, Any]
    ) -> tuple[Tree, State]:
        """The base's updates of the part that is trained."""
        g = trace.gradient
        if self.m_sharpness is not None:
            g = jax.lax.pmean(g, self.m_sharpness)
            if extra.get("value") is not None:
                extra = extra | {"value": jax.lax.pmean(extra["value"], self.m_sharpness)}
        updates, after = self.base.update(g, state.base, self._part(params), **extra)
        return updates, State(state.step + 1, state.key, after)

    def _check_asked(self, params: Tree, grad_fn: Any) -> None:
        if params is None:
            raise ValueError(
                f"{self.name} takes gradients elsewhere than at params, and params is None: give "
                "update(grads, state, params, grad_fn=...)"
            )
        if not callable(grad_fn):
            raise ValueError(
                f"{self.name} takes gradients elsewhere than at params: give "
                "update(grads, state, params, grad_fn=...), or use step(loss_and_grad, params, "
                "state, batch) in place of update, and of TrainState.apply_gradients"
            )

    def _check_each(self, part: Tree, asked: str) -> None:
        if asked == checks.GRAD_FN and apart(part):
            raise TypeError(
                "where shard_map checks its axes, update cannot tell each device's own gradient, "
                "of which m_sharpness is, from that of all: take the step by step(loss_and_grad, "
                "params, state, batch), or give shard_map check_vma=False"
            )

    def _check_state(self, state: Any, part: Tree) -> None:
        if not isinstance(state, State) or (state.key is None) != (self.name == "sam"):
            what = "another algorithm's" if isinstance(state, State) else type(state).__name__
            raise TypeError(
                f"state is not {self.name}'s: give what init(params) of this transformation made, "
                f"or a State of what was saved, not {what}"
            )
        checks.check_base_fits(self.name, state.base, jax.eval_shape(self.base.init, part))


def _copied(leaf: Any) -> Any:
    return jnp.array(leaf, copy=True) if isinstance(leaf, jax.Array) else leaf


def _asked(grad_fn: Callable[..., Tree], first: Tree) -> LossAndGrad:
    """The gradients of a step, without losses: the first may be there already.

    optax wants those of complex leaves conjugated; what asks for them here conjugates JAX's.
    """
    number = itertools.count()

    def loss_and_grad(params: Tree) -> tuple[Any, Tree]:
        i = next(number)
        gradient = first if i == 0 and first is not None else grad_fn(params, i)
        return None, jax.tree.map(jnp.conj, gradient)

    return loss_and_grad
