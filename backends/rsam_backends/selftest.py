"""What a backend must get right before it is used: a step of a network of two layers, and kernels.

The core keeps a model's parameters and gradients as views of one flat vector, and writes through
them. In a library whose slices are copies nothing fails: such a model keeps its weights at 0. So
the step is taken once, here, and held against NumPy's. It is written in the namespace's names;
kernels, which run in place of ops, are tried each by itself (kernel_trial.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rsam_backends.base import Array, Backend, BackendError, one_line
from rsam_backends.kernel_trial import trial_of_kernels

TOLERANCE = 1e-5
"""Of float32 numbers about 1; products in fewer digits, as some GPUs take them, differ by more."""

SHAPES = (5, 3), (2, 5)
X = np.sin(np.arange(12, dtype="float32")).reshape(4, 3)
Y = np.eye(2, dtype="float32")[[0, 1, 1, 0]]
START = np.cos(np.arange(25, dtype="float32"))


@dataclass(frozen=True)
class Tried:
    """What was tried, and came out right."""

    difference: float
    """How far the weights after the step are from NumPy's."""
    kernels: list[str]
    untried: list[str]
    """Kernels of names for which there is no example."""

    def describe(self) -> dict[str, str]:
        """What `rsam-ref doctor` prints of it."""
        within = f" to {self.difference:.0e}" if self.difference else ""
        told = {"trial": f"a step of a two-layer network equals NumPy's{within}"}
        if self.kernels:
            told["kernels tried"] = f"{', '.join(self.kernels)}: values and gradients are right"
        if self.untried:
            told["kernels not tried"] = ", ".join(self.untried)
        return told


def trial(backend: Backend) -> Tried:
    """What was tried of a backend. `BackendError` where it is not NumPy's but for rounding."""
    try:
        if not np.array_equal(backend.to_host(backend.to_device(START)), START):
            raise _refused(backend, "to_host(to_device(x)) is not x", at="its first array")
        ours = _step(backend.namespace, backend.to_device)
        begun, found = map(backend.to_host, ours)
    except BackendError:
        raise
    except Exception as error:  # another package's backend may fail in any way
        raise _refused(
            backend, f"nothing comes ({type(error).__name__}: {one_line(error)})"
        ) from error
    if not np.array_equal(begun, START):
        raise _refused(backend, "what is written into views is lost, so a model's weights stay 0")
    _, expected = _step(np, np.asarray)
    difference = float(abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise _refused(backend, f"the weights are {difference:.1g} away from NumPy's")
    return Tried(difference, *trial_of_kernels(backend))


def _refused(backend: Backend, why: str, at: str = "a step of a two-layer network") -> BackendError:
    return BackendError(
        f"the {backend.name} backend fails at {at}: {why}; "
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
