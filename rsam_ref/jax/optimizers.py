"""SAM and R-SAM around an optax optimizer: transformations of optax, with a whole step besides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from rsam_ref.algorithms.sam import Trace
from rsam_ref.jax.around import SharpnessAware, State, around
from rsam_ref.jax.axes import OutputAxis
from rsam_ref.jax.checks import check_like, transformation
from rsam_ref.jax.devices import Axes
from rsam_ref.jax.draw import DRAWS, normal, scaled
from rsam_ref.jax.gradients import LossAndGrad, asam_gradient, rsam_gradient, sam_gradient
from rsam_ref.jax.settings import Number, at, check_known, check_numbers, key_of
from rsam_ref.jax.vectors import Tree


def sam(
    base: optax.GradientTransformation,
    rho: Number = 0.05,
    *,
    ascent_steps: int = 1,
    adaptive: bool = False,
    eta: float = 0.01,
    trainable: Any = None,
    m_sharpness: Axes | None = None,
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
        the name of a mapped axis (of ``shard_map``, ``pmap`` or ``vmap``), or several, each of
        whose members climbs by the gradient of its own part of the batch; g, and the loss that the
        base may ask for, are averaged over it, and by nobody else. Without it, the gradients are
        those that loss_and_grad gives.

    Raises ValueError for settings that cannot be, TypeError for a base that can be none; a step
    raises them for an axis that is not mapped, and for gradients averaged over it already.

    >>> tx = sam(optax.sgd(0.5), rho=1.0)
    >>> w = jax.numpy.array([3.0, 4.0])
    >>> w, state, trace = tx.step(jax.value_and_grad(lambda w: w @ w / 2), w, tx.init(w))
    >>> print([round(x, 2) for x in trace.gradient.tolist()], [round(x, 2) for x in w.tolist()])
    [3.6, 4.8] [1.2, 1.6]
    """
    base = transformation("sam", base, SharpnessAware)
    check_numbers(schedules=True, rho=rho, eta=eta, ascent_steps=ascent_steps)
    if adaptive and ascent_steps != 1:
        raise ValueError("ASAM is defined with one ascent step; drop ascent_steps or adaptive")

    def find(loss_and_grad: LossAndGrad, w: Tree, state: State, args: tuple[Any, ...]) -> Trace:
        radius = at("rho", rho, state.step)
        if adaptive:
            return asam_gradient(loss_and_grad, w, *args, rho=radius, eta=eta)
        return sam_gradient(loss_and_grad, w, *args, rho=radius, ascent_steps=ascent_steps)

    return around("sam", base, find, None, trainable, m_sharpness)


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
    m_sharpness: Axes | None = None,
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
        which axis of a leaf counts its filters, as in `filter_noise`; `flax_axis` for flax and
        haiku, `equinox_axis` for equinox.
    draw:
        as in `filter_noise`; or a function of (step, params) that gives z, a tree like params.

    >>> tx = rsam(optax.sgd(0.5), rho=1.0, sigma=0.01)
    >>> w = jax.numpy.array([3.0, 4.0])
    >>> w, state, trace = tx.step(jax.value_and_grad(lambda w: w @ w / 2), w, tx.init(w))
    >>> print(trace.noise.shape, round(float(jax.numpy.linalg.norm(trace.perturbation)), 3))
    (2,) 1.0
    """
    base = transformation("rsam", base, SharpnessAware)
    check_known(output_axis=output_axis)
    check_numbers(schedules=True, rho=rho, sigma=sigma, lam=lam)
    if not callable(draw) and draw not in DRAWS:
        raise ValueError(
            f"draw is 'independent', 'one-key', or a function of (step, params), not {draw!r}"
        )

    def find(loss_and_grad: LossAndGrad, w: Tree, state: State, args: tuple[Any, ...]) -> Trace:
        if callable(draw):
            z = draw(state.step, w)
            check_like("draw(step, params) must give z, a tree like params", z, w)
        else:
            now = jax.random.fold_in(key_of(state.key), state.step)
            if m_sharpness is not None:
                now = jax.random.fold_in(now, jax.lax.axis_index(m_sharpness))
            z = normal(now, w, draw)
        noise = scaled(z, w, at("sigma", sigma, state.step), output_axis)
        settings = {"rho": at("rho", rho, state.step), "lam": at("lam", lam, state.step)}
        return rsam_gradient(loss_and_grad, w, noise, *args, **settings)

    return around("rsam", base, find, key_of(key), trainable, m_sharpness)
