"""R-SAM's draw on pytrees: D = sigma s z, with s the norm of the filter that a weight belongs to.

A filter is what makes one output, as in `rsam_ref.algorithms.noise`. Which axis of a leaf counts
the outputs is a convention of the library that the model is made with: the first one here, in
PyTorch and in equinox, the last one in flax and haiku. ``output_axis`` says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rsam_ref.algorithms.noise import TINY
from rsam_ref.jax.checks import as_weights, told
from rsam_ref.jax.settings import check_numbers, is_key
from rsam_ref.jax.vectors import Tree, wide

Axis = int | tuple[int, ...] | None
"""The axis, or axes, that count a leaf's outputs; None where the leaf is one filter as a whole."""
OutputAxis = Axis | Callable[[str, Any], Axis]
"""The same for all leaves, or by a leaf's name in the tree, as ``"dense/kernel"``, and the leaf."""

DRAWS = ("independent", "one-key")


def flax_axis(name: str, leaf: Any) -> Axis:
    """The output axis in models of flax (linen and nnx) and haiku: the last.

    Kernels are (in, out) and (height, width, in, out). The queries, keys and values of attention
    are (in, heads, of a head): each number of each head is an output; its bias is one filter, as
    every bias is. A row of an embedding is one filter, as in PyTorch. Of a transposed convolution
    the last axis is right unless it was made with ``transpose_kernel``; of layers stacked by a
    scan it is not, see `stacked`.
    """
    *_, layer, kind = ["", "", *name.removesuffix("/value").split("/")]
    if kind == "bias":
        return None
    if kind in ("embedding", "embeddings"):
        return 0
    if layer in ("query", "key", "value"):
        return tuple(range(1, leaf.ndim))
    return -1


def equinox_axis(name: str, leaf: Any) -> Axis:
    """The output axis in models of equinox: the first.

    A convolution's bias, (out, 1, 1), is one filter, as every bias is.
    """
    return None if name.split("/")[-1] == "bias" else 0


def stacked(output_axis: OutputAxis, *names: str) -> Callable[[str, Any], Axis]:
    """The output axis where some leaves are those of several layers, stacked along axis 0.

    So do ``nn.scan`` and ``nn.vmap`` of flax with ``variable_axes={"params": 0}``, ``nnx.vmap``,
    and ``equinox.filter_vmap`` of a constructor. Every layer's filters are its own, biases too.

    Parameters
    ----------
    output_axis:
        that of one layer, and of the leaves that are not stacked.
    names:
        what the stacked leaves have in their path, such as ``"layers"`` of ``"layers/dense/bias"``.

    >>> w = {"layers": {"bias": jnp.array([[3.0, 4.0], [6.0, 8.0]])}, "bias": jnp.array([3.0, 4.0])}
    >>> s = filter_norms(w, stacked(flax_axis, "layers"))
    >>> s["layers"]["bias"].tolist(), s["bias"].tolist()
    ([[5.0], [10.0]], [5.0])
    """
    if not names:
        raise TypeError("stacked(output_axis, *names) takes the names of what is stacked")

    def axis(name: str, leaf: Any) -> Axis:
        if not set(names) & set(name.split("/")):
            return axis_of(output_axis, name, leaf)
        if leaf.ndim == 0:
            raise ValueError(f"{name} has no axis, so nothing is stacked in it")
        layer = jax.eval_shape(lambda a: a[0], leaf)
        one = axis_of(output_axis, name, layer)
        if layer.ndim < 2 or one is None:
            return (0,)
        inside = one if isinstance(one, tuple) else (one,)
        return (0, *(1 + axis % layer.ndim for axis in inside))

    return axis


def axis_of(output_axis: OutputAxis, name: str, leaf: Any) -> Axis:
    """A leaf's output axis, by its name where a function says it."""
    return output_axis(name, leaf) if callable(output_axis) else output_axis


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

    def norms(path: Any, w: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return _norms(w, axis_of(output_axis, name, w), name)

    return jax.tree_util.tree_map_with_path(norms, as_weights(params))


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
    return jax.tree.map(lambda w, s, n: (sigma * s * n).astype(w.dtype), params, norms, z)


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
    if output_axis is None or w.ndim == 0 or (w.ndim == 1 and output_axis != (0,)):
        return jnp.sqrt(jnp.sum(squares, keepdims=True)) + TINY
    outputs = output_axis if isinstance(output_axis, tuple) else (output_axis,)
    if not all(hasattr(axis, "__index__") and -w.ndim <= axis < w.ndim for axis in outputs):
        raise ValueError(f"{name or 'the leaf'} has shape {w.shape}, and no axis {output_axis}")
    kept = {axis % w.ndim for axis in outputs}
    over = tuple(axis for axis in range(w.ndim) if axis not in kept)
    return jnp.sqrt(jnp.sum(squares, axis=over, keepdims=True))
