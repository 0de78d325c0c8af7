"""SAM, ASAM and R-SAM on pytrees: the very lines of `rsam_ref.algorithms`, run on trees.

``loss_and_grad(params, *args)`` is ``jax.value_and_grad(loss)``, or whatever else gives the loss
and its gradient: averaged over devices, or summed over micro-batches. It is called with the same
``args`` in every pass, so the mini-batch and the keys of dropout belong there. With ``has_aux`` the
trace's loss is the pair ``(loss, aux)`` of the first pass, and batch norm's statistics are those.

Everything here may be compiled, mapped and scanned, and a tree's leaves may be of different types,
which they keep. Gradients are taken as JAX gives them. Of complex leaves that is the conjugate of
the direction in which the loss rises, and optax's optimizers want the direction: so the trace's
gradients are conjugated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp

from rsam_ref.algorithms import sam, variants
from rsam_ref.algorithms.sam import Trace
from rsam_ref.algorithms.settings import is_traced
from rsam_ref.jax.checks import as_weights, check_function, check_like, pair_of
from rsam_ref.jax.devices import over_devices
from rsam_ref.jax.settings import check_numbers
from rsam_ref.jax.vectors import Tree, Vector, length_type, typed_like

LossAndGrad = Callable[..., tuple[Any, Tree]]

NOISE = "the noise must be a tree like params, as filter_noise gives it"
QUANTITIES = [field.name for field in fields(Trace)]
jax.tree_util.register_dataclass(Trace, data_fields=QUANTITIES, meta_fields=[])


def sam_gradient(
    loss_and_grad: LossAndGrad, params: Tree, *args: Any, rho: Any, ascent_steps: int = 1
) -> Trace:
    """Sharpness-aware minimization (Foret et al., ICLR 2021): `rsam_ref.sam_gradient` on a tree.

    ::

        g0 = grad L(w)       eps = rho g0 / (||g0|| + 1e-12)       g = grad L(w + eps)

    Parameters
    ----------
    loss_and_grad:
        gives the loss and its gradient, a tree like params; see above.
    params:
        w, a tree of floating or complex arrays. ``||.||`` is over all of them together.
    args:
        the mini-batch and whatever else both passes take.
    rho:
        the radius, in units of the weights.
    ascent_steps:
        k steps up of rho / k each, and k + 1 gradients.

    Returns
    -------
    Trace:
        every quantity of the step, those of the weights' size as trees like params.

    Raises
    ------
    ValueError:
        for settings that cannot be, and a tree without leaves.
    TypeError:
        for a leaf that has no gradient, and where loss_and_grad gives something else.
    """
    settings = {"rho": rho, "ascent_steps": ascent_steps}
    return _on_trees(sam.sam_gradient, loss_and_grad, params, args, **settings)


def asam_gradient(
    loss_and_grad: LossAndGrad, params: Tree, *args: Any, rho: Any, eta: float = 0.01
) -> Trace:
    """Adaptive SAM (Kwon et al., ICML 2021): ``eps = rho T^2 g0 / ||T g0||``, ``T = |w| + eta``.

    The rest is as in `sam_gradient`.
    """
    return _on_trees(variants.asam_gradient, loss_and_grad, params, args, rho=rho, eta=eta)


def rsam_gradient(
    loss_and_grad: LossAndGrad, params: Tree, noise: Tree, *args: Any, rho: Any, lam: Any = 2.0
) -> Trace:
    """Random sharpness-aware minimization (Liu et al., NeurIPS 2022): `rsam_ref.rsam_gradient`.

    ::

        g0 = grad L(w + D)       a = lam g0 + D       eps = rho a / (||a|| + 1e-12)
        g  = grad L(w + eps)

    ``noise`` is D, a tree like params, see `filter_noise`; ``lam`` weighs the gradient against it.
    The loss is the first pass's, at w + D. The rest is as in `sam_gradient`.
    """
    settings = {"rho": rho, "lam": lam}
    return _on_trees(sam.rsam_gradient, loss_and_grad, params, args, noise, **settings)


def _on_trees(
    rule: Callable[..., Trace],
    loss_and_grad: LossAndGrad,
    params: Tree,
    args: tuple[Any, ...],
    *trees: Tree,
    **settings: Any,
) -> Trace:
    """A rule for vectors, with params for w and trees for its further vectors.

    A radius of 0 leaves w where it is, bit for bit, where 0 / ||g0|| g0 need not be 0: a gradient
    that is not finite is then the base optimizer's to meet.
    """
    check_function(loss_and_grad)
    settings = {name: _number(value) for name, value in settings.items()}
    check_numbers(**settings)
    weights = as_weights(params)
    for tree in trees:
        check_like(NOISE, tree, weights)

    rho, passes = settings["rho"], itertools.count()

    def pair(w: Tree, *args: Any) -> tuple[Any, Tree]:
        return pair_of(loss_and_grad(w, *args), weights)

    def at(w: Vector) -> tuple[Any, Vector]:
        place = typed_like(weights, w.tree)
        if next(passes) > 0:
            place = _unless_zero(rho, place, weights)
        loss, gradient = over_devices(pair, place, args)
        return loss, Vector(jax.tree.map(jnp.conj, gradient))

    trace = rule(at, Vector(weights), *map(Vector, trees), **settings)
    found = {name: getattr(trace, name) for name in QUANTITIES}
    found = {k: v.tree if isinstance(v, Vector) else v for k, v in found.items()}
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return Trace(**found | {"perturbation": _unless_zero(rho, found["perturbation"], zeros)})


def _number(value: Any) -> Any:
    """A setting: Python's number of an array, and what is traced in the type of lengths."""
    if not isinstance(value, jax.Array) or value.ndim:
        return value
    return value.astype(length_type()) if is_traced(value) else value.item()


def _unless_zero(rho: Any, tree: Tree, instead: Tree) -> Tree:
    """The tree, but for a radius of 0 the other one."""
    if not is_traced(rho):
        return tree if rho else instead
    return jax.tree.map(lambda a, b: jnp.where(rho == 0, b, a), tree, instead)
