"""Which axis of a leaf counts its outputs: a convention of the library that made the model.

It is the first one in PyTorch and in equinox, the last one in flax and haiku, and where a leaf has
more axes than two, its name and the shape of the bias beside it say more.
"""

from __future__ import annotations

import inspect
import itertools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax

from rsam_ref.jax.vectors import Tree

Axis = int | tuple[int, ...] | None
"""The axis, or axes, that count a leaf's outputs; None where the leaf is one filter as a whole."""
Shapes = Mapping[str, tuple[int, ...] | None]
"""The shapes of all leaves by their names; None for what is left out, as by ``trainable``."""
OutputAxis = Axis | Callable[..., Axis]
"""The same for all leaves, or by a leaf's name in the tree, as ``"dense/kernel"``, and the leaf.

A function that has a parameter ``shapes`` is given `Shapes` by it.
"""

BIAS = {"kernel": "bias", "w": "b"}  # of flax, and of haiku


def flax_axis(name: str, leaf: Any, shapes: Shapes | None = None) -> Axis:
    """The output axis in models of flax (linen and nnx) and haiku: the last.

    Kernels are (in, out) and (height, width, in, out). A bias, and the scale and offset of a norm,
    are one filter; a row of an embedding is one, as in PyTorch. The outputs of a kernel lie along
    the axes of its bias: so of attention's (in, heads, of a head) each number of each head is one,
    and those of a transposed convolution may lie along the last axis but one. Of such a convolution
    without a bias, or with as many inputs as outputs, haiku's is known by ``transpose`` in its
    name, and flax's with ``transpose_kernel`` is not: give a function of your own for it. For
    layers stacked by a scan see `stacked`.

    Without ``shapes`` every ``kernel`` of three axes in a layer query, key or value is attention's.
    """
    path = ["", "", *name.removesuffix("/value").split("/")]
    layer, kind = path[-2:]
    if kind in ("bias", "scale", "offset"):
        return None
    if kind in ("embedding", "embeddings"):
        return 0
    if kind == "w" and "transpose" in layer and leaf.ndim > 2:
        return -2
    heads = kind == "kernel" and layer in ("query", "key", "value") and leaf.ndim == 3
    if shapes is None or kind not in BIAS:
        return (1, 2) if heads else -1
    bias = _shape(shapes, *path[2:-1], BIAS[kind])
    if bias:
        return _along(bias, leaf.shape)
    out = _shape(shapes, *path[2:-2], "out", "kernel")  # (heads, of a head, out)
    return (1, 2) if heads and (out is None or out[:-1] == leaf.shape[1:]) else -1


def _shape(shapes: Shapes, *path: str) -> tuple[int, ...] | None:
    """The shape of the leaf at a path; () where there is none, None where it is left out."""
    name = "/".join(path)
    return shapes.get(name, shapes.get(f"{name}/value", ()))


def _along(bias: tuple[int, ...], kernel: tuple[int, ...]) -> Axis:
    """The axes of a kernel that are those of its bias, of several the last ones."""
    sizes = [size for size in reversed(bias) if size > 1]
    for axes in itertools.combinations(reversed(range(len(kernel))), len(sizes)):
        if [kernel[axis] for axis in axes] == sizes:
            return axes
    return -1


def equinox_axis(name: str, leaf: Any) -> Axis:
    """The output axis in models of equinox: the first.

    A convolution's bias, (out, 1, 1), is one filter, as every bias is.
    """
    return None if name.split("/")[-1] == "bias" else 0


def stacked(output_axis: OutputAxis, *names: str) -> Callable[..., Axis]:
    """The output axis where some leaves are those of several layers, stacked along axis 0.

    So do ``nn.scan`` and ``nn.vmap`` of flax with ``variable_axes={"params": 0}``, ``nnx.vmap``,
    and ``equinox.filter_vmap`` of a constructor. Every layer's filters are its own, biases too.

    Parameters
    ----------
    output_axis:
        that of one layer, and of the leaves that are not stacked.
    names:
        what the stacked leaves have in their path, such as ``"layers"`` of ``"layers/dense/bias"``.

    Raises ValueError, once it is given a tree, for a name that no leaf has in its path.

    >>> from jax.numpy import array
    >>> from rsam_ref.jax import filter_norms
    >>> w = {"layers": {"bias": array([[3.0, 4.0], [6.0, 8.0]])}, "bias": array([3.0, 4.0])}
    >>> s = filter_norms(w, stacked(flax_axis, "layers"))
    >>> s["layers"]["bias"].tolist(), s["bias"].tolist()
    ([[5.0], [10.0]], [5.0])
    """
    if not names:
        raise TypeError("stacked(output_axis, *names) takes the names of what is stacked")

    def inside(name: str) -> bool:
        return not set(names).isdisjoint(name.split("/"))

    def axis(name: str, leaf: Any, shapes: Shapes | None = None) -> Axis:
        _check_names(names, shapes)
        if not inside(name):
            return axis_of(output_axis, name, leaf, shapes)
        if leaf.ndim == 0:
            raise ValueError(f"{name} has no axis, so nothing is stacked in it")
        layer = jax.eval_shape(lambda a: a[0], leaf)
        of_layer = shapes and {k: s[1:] if s and inside(k) else s for k, s in shapes.items()}
        one = axis_of(output_axis, name, layer, of_layer)
        if layer.ndim < 2 or one is None:
            return (0,)
        axes = one if isinstance(one, tuple) else (one,)
        return (0, *(1 + axis % layer.ndim for axis in axes))

    return axis


def _check_names(names: tuple[str, ...], shapes: Shapes | None) -> None:
    if shapes is None:
        return
    parts = {part for name in shapes for part in name.split("/")}
    for missing in sorted(set(names) - parts):
        raise ValueError(
            f"no leaf has {missing!r} in its path, which stacked(output_axis, *names) names; "
            f"the first one's path is {next(iter(shapes))!r}"
        )


def shapes_of(params: Tree) -> Shapes:
    """The shapes of a tree's leaves by their names, and None for each None."""
    leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda leaf: leaf is None)
    return {
        name_of(path): leaf if leaf is None else getattr(leaf, "shape", ()) for path, leaf in leaves
    }


def name_of(path: Any) -> str:
    """A leaf's name, from its path in the tree."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def output_axes(axis: Axis, leaf: Any, name: str) -> tuple[int, ...] | None:
    """The axes that count a leaf's outputs, each >= 0; None where it is one filter as a whole.

    So is every leaf with less than two axes, but for one whose axis is ``(0,)``, as `stacked` gives
    it. Raises ValueError for an axis that is not there.
    """
    if isinstance(axis, str):
        raise ValueError(f"output_axis is the text {axis!r}: give a number or a function of a name")
    counted = leaf.ndim == 1 and isinstance(axis, tuple) and axis == (0,)
    if axis is None or (leaf.ndim < 2 and not counted):
        return None
    outputs = axis if isinstance(axis, tuple) else (axis,)
    if not all(hasattr(a, "__index__") and -leaf.ndim <= a < leaf.ndim for a in outputs):
        raise ValueError(f"{name or 'the leaf'} has shape {leaf.shape}, and no axis {axis}")
    return tuple(sorted({operator.index(a) % leaf.ndim for a in outputs}))


def axis_of(output_axis: OutputAxis, name: str, leaf: Any, shapes: Shapes | None) -> Axis:
    """A leaf's output axis, by its name where a function says it."""
    if not callable(output_axis):
        return output_axis
    if "shapes" in inspect.signature(output_axis).parameters:
        return output_axis(name, leaf, shapes=shapes)
    return output_axis(name, leaf)
