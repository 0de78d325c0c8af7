"""What a backend must get right before it is used: a step of a network of two layers.

The core keeps a model's parameters and gradients as views of one flat vector, and writes through
them. In a library whose slices are copies nothing fails: such a model keeps its weights at 0. So
the step is taken once, here, and held against NumPy's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rsam_backends.base import Array, Backend, BackendError

TOLERANCE = 1e-5
"""Of float32 numbers about 1; products in fewer digits, as some GPUs take them, differ by more."""

SHAPES = (5, 3), (2, 5)
X = np.sin(np.arange(12, dtype="float32")).reshape(4, 3)
Y = np.eye(2, dtype="float32")[[0, 1, 1, 0]]
START = np.cos(np.arange(25, dtype="float32"))


def trial(backend: Backend) -> float:
    """How far the weights after the step are from NumPy's. `BackendError` beyond rounding."""
    try:
        ours = _step(backend.namespace, backend.to_device)
        begun, found = map(backend.to_host, ours)
    except BackendError:
        raise
    except Exception as error:  # another package's backend may fail in any way
        raise _refused(backend, f"nothing comes ({type(error).__name__}: {error})") from error
    if not np.array_equal(begun, START):
        raise _refused(backend, "what is written into views is lost, so a model's weights stay 0")
    _, expected = _step(np, np.asarray)
    difference = float(abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise _refused(backend, f"the weights are {difference:.1g} away from NumPy's")
    return difference


def _refused(backend: Backend, why: str) -> BackendError:
    return BackendError(
        f"the {backend.name} backend fails at a step of a two-layer network: {why}; "
        "backends/README.md says what a backend has to do"
    )


def _step(xp: Any, to_device: Any) -> tuple[Array, Array]:
    """The flat weights as they were written through views, and after a step of SGD."""
    x, y, start = to_device(X), to_device(Y), to_device(START)
    w, gradient = xp.zeros(25, dtype="float32"), xp.zeros(25, dtype="float32")
    w1, w2 = _views(xp, w)
    w1[...], w2[...] = _views(xp, start)
    begun = xp.asarray(w, copy=True)
    hidden = xp.maximum(x @ w1.T, 0)  # (4, 5)
    scores = hidden @ w2.T  # (4, 2)
    e = xp.exp(scores - xp.max(scores, axis=1, keepdims=True))
    g_scores = (e / xp.sum(e, axis=1, keepdims=True) - y) / 4
    g1, g2 = _views(xp, gradient)
    g2[...] = g_scores.T @ hidden
    g1[...] = xp.where(hidden != 0, g_scores @ w2, 0).T @ x
    moved = w
    moved -= 0.5 * gradient  # in place, so w is moved as well
    return begun, w


def _views(xp: Any, flat: Array) -> tuple[Array, Array]:
    return xp.reshape(flat[:15], SHAPES[0]), xp.reshape(flat[15:], SHAPES[1])
