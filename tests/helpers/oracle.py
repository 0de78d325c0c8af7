"""The judge of the ops: the same function computed by someone else, and by finite differences.

`compare` runs an op and its reference (a torch function, or a composition of our own ops) on the
same numbers, then both backward passes from the same random gradient at the result. It does so in
both precisions, and for arrays that lie in memory in order, in Fortran order, and backwards with
gaps. Inputs are frozen, so an op that writes into them fails. Where the backend brings kernels of
its own, they and the readable definitions are both judged.

Errors are measured against the scale of the whole array, and against 1 where the scale is smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rsam_backends import kernels_replaced, to_device, to_host
from rsam_backends.switch import in_force
from rsam_ref import Tensor
from rsam_ref.autograd.tensor import Leaf


def normal(seed: int, *shapes: Any) -> list[np.ndarray]:
    """Normal draws, an array for each shape."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape)) for shape in shapes]


def tied(seed: int, *shapes: Any) -> list[np.ndarray]:
    """Whole numbers from -2 to 2: many are equal, or 0, and whole rows may be constant."""
    return [np.asarray(np.clip(np.round(x), -2, 2)) for x in normal(seed, *shapes)]


def positive(seed: int, *shapes: Any) -> list[np.ndarray]:
    """Between 0.5 and about 4."""
    return [np.asarray(np.abs(x) + 0.5) for x in normal(seed, *shapes)]


def backwards_with_gaps(array: np.ndarray) -> np.ndarray:
    """The same values in every second place of a larger array, from its end."""
    room = np.empty([2 * n for n in array.shape], array.dtype)
    view = room[(..., *[slice(None, None, -2)] * array.ndim)]
    view[...] = array
    return view


PASSES = (
    ("float64", 1e-10, lambda array: array.copy(order="C")),
    ("float64", 1e-10, backwards_with_gaps),
    ("float32", 1e-4, lambda array: array.copy(order="F")),
)


def is_float(x: Any) -> bool:
    """Whether an input has a gradient: numbers, labels, masks and indices have none."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def cotangent(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The gradient at a result of this shape that backward starts from."""
    drawn = np.asarray(np.random.default_rng(shape).normal(size=shape)).astype(dtype)
    drawn.setflags(write=False)
    return drawn


def with_ours(f: Callable[..., Tensor], inputs: list[Any]) -> list[np.ndarray]:
    """The value of ``f``, and its gradients at the float inputs."""
    given = [Tensor.over(to_device(x), Leaf(x.dtype)) if is_float(x) else x for x in inputs]
    out = f(*given)
    out.backward(to_device(cotangent(out.shape, out.dtype)))
    leaves = [x for x in given if isinstance(x, Tensor)]
    return [np.asarray(to_host(out.data))] + [
        np.zeros(x.shape) if x.grad is None else to_host(x.grad) for x in leaves
    ]


def with_torch(f: Callable[..., torch.Tensor], inputs: list[Any]) -> list[np.ndarray]:
    """The same from torch."""
    given = [torch.tensor(x.copy()) if isinstance(x, np.ndarray) else x for x in inputs]
    leaves = [x.requires_grad_() for x, array in zip(given, inputs) if is_float(array)]
    out = f(*given)
    out.backward(torch.tensor(cotangent(out.shape, str(out.dtype).split(".")[1])))
    grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]
    return [out.detach().numpy()] + [grad.numpy() for grad in grads]


def compare(
    name: str,
    f: Callable[..., Tensor],
    reference: Callable[..., Any],
    *inputs: Any,
    by: Callable[..., list[np.ndarray]] = with_torch,
) -> None:
    """Fail unless ``f`` and ``reference`` agree in value and in all float inputs' gradients."""
    for dtype, tolerance, lay_out in PASSES:
        given = [lay_out(x.astype(dtype)) if is_float(x) else x for x in inputs]
        for x in given:
            if isinstance(x, np.ndarray):
                x.setflags(write=False)
        expected = by(reference, given)
        labels = ["value"] + [f"gradient at input {i}" for i, x in enumerate(given) if is_float(x)]
        kernels = in_force.kernels
        for kind, replaced in (("definition", dict.fromkeys(kernels)), ("kernel", {})):
            if kind == "kernel" and not any(kernels.values()):
                continue
            with kernels_replaced(replaced):
                found = with_ours(f, given)
            for label, a, b in zip(labels, found, expected, strict=True):
                label = f"{name} ({kind}) of {describe(given)}: {label}"
                assert a.dtype == dtype, f"{label} is {a.dtype}"
                assert_close(label, a, b, tolerance)


def describe(inputs: Any) -> str:
    return ", ".join(
        f"{x.dtype}{x.shape}" if isinstance(x, np.ndarray) else repr(x) for x in inputs
    )


def assert_close(label: str, found: Any, expected: Any, tolerance: float = 1e-10) -> None:
    """Fail, naming ``label`` and the worst place, unless the arrays agree."""
    a, b = np.asarray(found), np.asarray(expected)
    assert a.shape == b.shape, f"{label}: shape {a.shape}, expected {b.shape}"
    if not a.size:
        return
    allowed = tolerance * max(1.0, float(np.abs(b).max()))
    errors = np.abs(a.astype("float64") - b)
    worst = tuple(map(int, np.unravel_index(errors.argmax(), errors.shape)))
    assert errors[worst] <= allowed, (
        f"{label}: {a[worst]} at {worst}, expected {b[worst]} to within {allowed:.0e}"
    )


def check_finite_differences(name: str, f: Callable[..., Tensor], *arrays: Any) -> None:
    """Hold the gradient at each float input against a central difference along a random direction.

    Everything is float64; inputs must lie away from kinks (points without a derivative) by more
    than the step of 1e-5.
    """
    rng, step = np.random.default_rng(len(name)), 1e-5
    value, *gradients = with_ours(f, list(arrays))
    weights = cotangent(value.shape, value.dtype)
    places = [i for i, x in enumerate(arrays) if is_float(x)]
    for place, gradient in zip(places, gradients, strict=True):
        direction = rng.normal(size=arrays[place].shape)

        def along(t, place=place, direction=direction):
            moved = [Tensor(x) if is_float(x) else x for x in arrays]
            moved[place] = Tensor(arrays[place] + t * direction)
            return float((to_host(f(*moved).data) * weights).sum())

        slope = (along(step) - along(-step)) / (2 * step)
        expected = float((gradient * direction).sum())
        assert abs(slope - expected) <= 1e-7 * max(1.0, abs(slope)), (
            f"{name} of {describe(arrays)}: along a random direction of input {place} the value "
            f"changes by {slope:.10g}, the gradient says {expected:.10g}"
        )
