"""SAM and R-SAM around an optax optimizer: transformations of optax, with a whole step besides."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsam_ref.algorithms.noise import check_sigma
from rsam_ref.algorithms.sam import Trace
from rsam_ref.algorithms.schedules import Schedule
from rsam_ref.algorithms.settings import check_step, is_traced
from rsam_ref.algorithms.variants import check_eta
from rsam_ref.jax.draw import DRAWS, OutputAxis, normal, scaled
from rsam_ref.jax.gradients import (
    LossAndGrad,
    asam_gradient,
    pair_of,
    rsam_gradient,
    sam_gradient,
)
from rsam_ref.jax.parts import joined, mask_of, part_of
from rsam_ref.jax.vectors import Tree, as_weights

Number = Any
"""A number, or a schedule as optax has them: a function of the step, which jit traces."""

Find = Callable[[LossAndGrad, Tree, "State", tuple[Any, ...]], Trace]


class State(NamedTuple):
    """All that the next step depends on, besides the weights: arrays in a tree, to be saved."""

    step: Any
    """The steps taken."""
    key: Any
    """R-SAM's key, which stays: step t draws by ``jax.random.fold_in(key, t)``. None for SAM."""
    base: Any
    """The base optimizer's state."""


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

    step: Callable[..., tuple[Tree, State, Trace]]


def sam(
    base: optax.GradientTransformation,
    rho: Number = 0.05,
    *,
    ascent_steps: int = 1,
    adaptive: bool = False,
    eta: float = 0.01,
    trainable: Any = None,
    m_sharpness: str | None = None,
) -> SharpnessAware:
    """Sharpness-aware minimization (Foret et al., ICLR 2021) around an optax optimizer.

    See `sam_gradient`; with ``adaptive`` it is ASAM, see `asam_gradient`.

    Parameters
    ----------
    base:
        moves the weights by g; whatever clips or averages g stands in it too.
    rho:
        the radius, in units of the weights; a number, or a schedule.
    trainable:
        which leaves take part, as in ``optax.masked``: a tree of bools, or a function of params
        that gives one. The others are left as they are, and the base does not see them.
    m_sharpness:
        the name of a mapped axis (of ``shard_map``, ``pmap`` or ``vmap``) each of whose members
        climbs by the gradient of its own part of the batch; g is averaged over it. Without it,
        the gradients are those that loss_and_grad gives.

    Raises ValueError for settings that cannot be, TypeError for a base that can be none.

    >>> tx = sam(optax.sgd(0.5), rho=1.0)
    >>> w = jnp.array([3.0, 4.0])
    >>> w, state, trace = tx.step(jax.value_and_grad(lambda w: w @ w / 2), w, tx.init(w))
    >>> print([round(x, 2) for x in trace.gradient.tolist()], [round(x, 2) for x in w.tolist()])
    [3.6, 4.8] [1.2, 1.6]
    """
    if not callable(rho) and not is_traced(rho):
        check_step(rho=rho)
    check_step(ascent_steps=ascent_steps)
    check_eta(eta)
    if adaptive and ascent_steps != 1:
        raise ValueError("ASAM is defined with one ascent step; drop ascent_steps or adaptive")

    def find(loss_and_grad: LossAndGrad, w: Tree, state: State, args: tuple[Any, ...]) -> Trace:
        radius = _at("rho", rho, state.step)
        if adaptive:
            return asam_gradient(loss_and_grad, w, *args, rho=radius, eta=eta)
        return sam_gradient(loss_and_grad, w, *args, rho=radius, ascent_steps=ascent_steps)

    return _around("sam", base, find, None, trainable, m_sharpness)


def rsam(
    base: optax.GradientTransformation,
    rho: Number = 0.05,
    sigma: Number = 5e-4,
    lam: Number = 2.0,
    *,
    key: Any = 0,
    output_axis: OutputAxis = 0,
    draw: str | Callable[[Any, Tree], Tree] = "independent",
    trainable: Any = None,
    m_sharpness: str | None = None,
) -> SharpnessAware:
    """Random sharpness-aware minimization (Liu et al., NeurIPS 2022) around an optax optimizer.

    See `rsam_gradient` and `filter_noise`. The loss in the trace is the first pass's, at w + D.

    Parameters
    ----------
    base, rho, trainable, m_sharpness:
        as in `sam`. The members of the axis ``m_sharpness`` draw
        their own noise as well.
    sigma:
        the noise in units of the filters' norms; a number, or a schedule.
    lam:
        weighs the gradient against the draw; a number, or a schedule.
    key:
        of the draws: a key of ``jax.random``, or a seed.
    output_axis:
        which axis of a leaf counts its filters; `flax_axis` for flax, `equinox_axis` for
        equinox.
    draw:
        as in `filter_noise`; or a function of (step, params) that gives z, a tree like params.

    >>> tx = rsam(optax.sgd(0.5), rho=1.0, sigma=0.01)
    >>> w = jnp.array([3.0, 4.0])
    >>> w, state, trace = tx.step(jax.value_and_grad(lambda w: w @ w / 2), w, tx.init(w))
    >>> print(trace.noise.shape, round(float(jnp.linalg.norm(trace.perturbation)), 3))
    (2,) 1.0
    """
    if not callable(rho) and not is_traced(rho):
        check_step(rho=rho)
    if not callable(lam):
        check_step(lam=lam)
    if not callable(sigma) and not is_traced(sigma):
        check_sigma(sigma)
    if not callable(draw) and draw not in DRAWS:
        raise ValueError(
            f"draw is 'independent', 'one-key', or a function of (step, params), not {draw!r}"
        )

    def find(loss_and_grad: LossAndGrad, w: Tree, state: State, args: tuple[Any, ...]) -> Trace:
        if callable(draw):
            z = draw(state.step, w)
        else:
            now = jax.random.fold_in(state.key, state.step)
            if m_sharpness is not None:
                now = jax.random.fold_in(now, jax.lax.axis_index(m_sharpness))
            z = normal(now, as_weights(w), draw)
        noise = scaled(z, as_weights(w), _at("sigma", sigma, state.step), output_axis)
        settings = {"rho": _at("rho", rho, state.step), "lam": _at("lam", lam, state.step)}
        return rsam_gradient(loss_and_grad, w, noise, *args, **settings)

    return _around("rsam", base, find, _key(key), trainable, m_sharpness)


def table(schedule: Schedule, steps: int) -> Callable[[Any], Any]:
    """A schedule of `rsam_ref.algorithms.schedules` in the form that jit traces.

    Its values are computed now, for so many steps; after them the last one stays.

    >>> from rsam_ref.algorithms.schedules import linear
    >>> [float(table(linear(1.0, 4), 5)(step)) for step in (0, 1, 9)]
    [1.0, 0.75, 0.0]
    """
    values = np.array([schedule(step) for step in range(steps)])
    return lambda step: jnp.asarray(values)[jnp.minimum(step, steps - 1)]


def _around(
    name: str,
    base: optax.GradientTransformation,
    find: Find,
    key: Any,
    trainable: Any,
    m_sharpness: str | None,
) -> SharpnessAware:
    """The transformation whose gradient ``find`` finds, and whose moves are the base's."""
    _check_base(name, base)
    base = optax.with_extra_args_support(base)

    def init(params: Tree) -> State:
        weights = as_weights(part_of(params, mask_of(trainable, params)))
        return State(jnp.zeros((), jnp.int32), key, base.init(weights))

    def found(
        loss_and_grad: LossAndGrad, params: Tree, state: State, args: tuple[Any, ...]
    ) -> Trace:
        _check_state(name, state)
        mask = mask_of(trainable, params)

        def of_part(part: Tree, *args: Any) -> tuple[Any, Tree]:
            loss, gradient = pair_of(loss_and_grad(joined(part, params), *args))
            return loss, part_of(gradient, mask)

        part = part_of(params, mask)
        if m_sharpness is None:
            return find(of_part, part, state, args)
        return find(of_part, _own(part, m_sharpness), state, args)

    def moved(
        trace: Trace, params: Tree, state: State, extra: dict[str, Any]
    ) -> tuple[Tree, State]:
        """The base's updates of the part that is trained."""
        g = trace.gradient
        if m_sharpness is not None:
            g = jax.lax.pmean(g, m_sharpness)
        part = part_of(params, mask_of(trainable, params))
        updates, after = base.update(g, state.base, part, **extra)
        return updates, State(state.step + 1, state.key, after)

    def step(
        loss_and_grad: LossAndGrad, params: Tree, state: State, *args: Any
    ) -> tuple[Tree, State, Trace]:
        trace = found(loss_and_grad, params, state, args)
        loss = trace.loss[0] if isinstance(trace.loss, tuple) else trace.loss
        updates, state = moved(trace, params, state, {"value": loss})
        part = part_of(params, mask_of(trainable, params))
        return joined(optax.apply_updates(part, updates), params), state, trace

    def update(
        grads: Tree, state: State, params: Tree = None, *, grad_fn: Any = None, **extra: Any
    ) -> tuple[Tree, State]:
        if params is None or grad_fn is None:
            raise ValueError(
                f"{name} takes gradients elsewhere than at params: give "
                "update(grads, state, params, grad_fn=...), or use step"
            )
        given = None if name == "rsam" else grads
        trace = found(_asked(grad_fn, given), params, state, ())
        updates, state = moved(trace, params, state, extra)
        return joined(updates, jax.tree.map(jnp.zeros_like, params)), state

    made = SharpnessAware(init, update)
    made.step = step
    return made


def _check_base(name: str, base: Any) -> None:
    if isinstance(base, SharpnessAware):
        raise TypeError(
            f"{name} finds its own gradient, so that of the one inside would be ignored; give it "
            "an optimizer such as optax.sgd(0.1)"
        )
    if not isinstance(base, optax.GradientTransformation):
        raise TypeError(
            f"{name} wraps an optimizer of optax, such as optax.sgd(0.1), not {type(base).__name__}"
        )


def _check_state(name: str, state: Any) -> None:
    if not isinstance(state, State) or (name == "rsam" and state.key is None):
        raise TypeError(
            f"state is not {name}'s: give what init(params) of this transformation made, or a "
            f"State of what was saved, not {type(state).__name__}"
        )


def _key(key: Any) -> Any:
    if isinstance(key, (int, np.integer)):
        return jax.random.PRNGKey(key)
    if not hasattr(key, "dtype"):
        raise TypeError(f"key is a key of jax.random, or a seed, not {key!r}")
    return key


def _at(name: str, value: Number, step: Any) -> Any:
    """The value at a step of what may be a schedule."""
    if not callable(value):
        return value
    try:
        return value(step)
    except jax.errors.JAXTypeError:
        raise TypeError(
            f"{name} is a schedule that asks for the number of the step, which jit does not know; "
            "give table(schedule, steps), or one of optax's schedules"
        ) from None


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


def _own(params: Tree, axis: str) -> Tree:
    """The same weights, but of each member its own.

    Where shard_map knows that weights are the same on all devices, JAX sums their gradient over
    the devices; where a choice by the device's number is in between, it does not.
    """
    here = jax.lax.axis_index(axis) >= 0
    return jax.tree.map(lambda w: jnp.where(here, w, w), params)
