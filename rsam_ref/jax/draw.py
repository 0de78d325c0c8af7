"""R-SAM's draw on pytrees: D = sigma s z, with s the norm of the filter that a weight belongs to.

A filter is what makes one output, as in `rsam_ref.algorithms.noise`. Which axis of a leaf counts
the outputs, ``output_axis`` says (axes.py): the first one where nothing else is given.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rsam_ref.algorithms.noise import TINY
from rsam_ref.jax.axes import Axis, OutputAxis, axis_of, name_of, output_axes, shapes_of
from rsam_ref.jax.checks import as_weights, told
from rsam_ref.jax.settings import check_numbers, is_key
from rsam_ref.jax.vectors import Tree, wide

DRAWS = ("independent", "one-key")


def filter_norms(params: Tree, output_axis: OutputAxis = 0) -> Tree:
    """s: the norms of every leaf's filters, in a shape that multiplies it.

    A leaf with less than two axes is one filter, whose norm is never quite 0; with the axis
    ``(0,)``, which `stacked` gives, each of its numbers is. Norms of float16 and bfloat16 are in
    float32.

    >>> w = {"kernel": jnp.array([[3.0, 0.0], [4.0, 2.0]]), "bias": jnp.array([6.0, 8.0])}
    >>> s = filter_norms(w, output_axis=-1)
    >>> s["kernel"].tolist(), s["bias"].tolist()
    ([[5.0, 2.0]], [10.0])
    """
    weights = as_weights(params)
    shapes = shapes_of(weights)

    def norms(path: Any, w: Any) -> Any:
        name = name_of(path)
        return _norms(w, axis_of(output_axis, name, w, shapes), name)

    return jax.tree_util.tree_map_with_path(norms, weights)


def filter_noise(
    key: Any,
    params: Tree,
    sigma: Any,
    *,
    output_axis: OutputAxis = 0,
    draw: str = "independent",
) -> Tree:
    """D = sigma s z with z ~ N(0, I): the noise of R-SAM, a tree like params.

    Parameters
    ----------
    key:
        of ``jax.random``, new in every step: ``jax.random.fold_in(key, step)``.
    params:
        the weights, which the noise is as large as, filter by filter.
    sigma:
        the noise in units of the filters' norms.
    output_axis:
        which axis of a leaf counts its filters: one for all, or a function of a leaf's name and the
        leaf, such as `flax_axis` and `equinox_axis`.
    draw:
        "independent" for every weight; or "one-key", as the public JAX code of R-SAM draws: with
        one key for all leaves, so that leaves of equal shape have the same z.

    Raises ValueError for a sigma below 0, an axis that is not there, another draw; TypeError for
    what is no key, such as a seed, which every step would draw alike by.
    """
    if not is_key(key):
        raise TypeError(
            "filter_noise draws by one key of jax.random, new in every step, such as "
            f"jax.random.fold_in(jax.random.key(0), step), not by {told(key)}"
        )
    check_numbers(sigma=sigma)
    weights = as_weights(params)
    return scaled(normal(key, weights, draw), weights, sigma, output_axis)


def scaled(z: Tree, params: Tree, sigma: Any, output_axis: OutputAxis) -> Tree:
    """sigma s z, every leaf of the type that it has in params."""
    norms = filter_norms(params, output_axis)

    def of_leaf(w: Any, s: Any, n: Any) -> Any:
        return (jnp.asarray(sigma, s.dtype) * s * n).astype(w.dtype)

    return jax.tree.map(of_leaf, params, norms, z)


def normal(key: Any, params: Tree, draw: str = "independent") -> Tree:
    """z ~ N(0, I), a tree like params: for each leaf by a key of its own, or all by one."""
    if draw not in DRAWS:
        raise ValueError(f"draw is 'independent' or 'one-key', not {draw!r}")
    leaves, structure = jax.tree.flatten(params)
    alike = draw == "one-key"
    keys = [key if alike else jax.random.fold_in(key, i) for i in range(len(leaves))]
    return structure.unflatten([_normal(k, w) for k, w in zip(keys, leaves)])


def _normal(key: Any, w: Any) -> Any:
    """N(0, 1) for every real number in w, in float32 at least."""
    if jnp.iscomplexobj(w):
        parts = jax.random.normal(key, (2, *w.shape), w.real.dtype)
        return jax.lax.complex(parts[0], parts[1])
    return jax.random.normal(key, w.shape, wide(w).dtype)


def _norms(w: Any, output_axis: Axis, name: str) -> Any:
    squares = (jnp.conj(wide(w)) * wide(w)).real
    kept = output_axes(output_axis, w, name)
    if kept is None:
        return _root(jnp.sum(squares, keepdims=True)) + TINY
    over = tuple(axis for axis in range(w.ndim) if axis not in kept)
    return _root(jnp.sum(squares, axis=over, keepdims=True))


def _root(squares: Any) -> Any:
    """The square root, whose derivative at 0 is 0 here: a filter of zeros gives no NaN."""
    zero = squares == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))
