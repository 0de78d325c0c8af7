"""The losses of two weights that the page has: those of surfaces.py, and four of its own.

`surfaces.js` has the same ones; the data of the last two are given to it by `page.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsam_backends import Stream, use_backend, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import ball_noise, check_sigma, filter_noise
from rsam_ref.algorithms.sam import LossAndGrad
from rsam_ref.autograd import ops
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.teaching.step import Asked
from rsam_ref.teaching.surfaces import SURFACES, Surface

SAMPLES = 24
"""Of the network of two weights."""
BATCH = 4
"""Samples of a mini-batch of it."""
SLICE = Path(__file__).with_name("digits.json")
"""The losses of a digits network over a plane of its weights; `python -m tests.helpers.slice`."""


@dataclass(frozen=True)
class Ground:
    """A loss of two weights, on one mini-batch where it has some."""

    name: str
    loss_and_grad: LossAndGrad
    """Loss and gradient (2,) at the weights (2,)."""
    scale: tuple[float, float] | None = None
    """The size s of the draw along both axes; None where the two weights are one filter."""

    def noise(self, w: Array, *, sigma: float, seed: int, ball: bool = False) -> Array:
        """R-SAM's draw D (2,) around w: that of `explain` with the same seed."""
        stream = Stream("noise", seed)
        if ball:
            return ball_noise(w, sigma=sigma, stream=stream)
        if self.scale is None:
            return filter_noise(w, [w.shape], sigma=sigma, stream=stream)
        check_sigma(sigma)
        return sigma * xp.array(self.scale, dtype=w.dtype) * stream.normal(2, w.dtype)


def ravine(w: Tensor) -> Tensor:
    """The fifth tutorial's: a network u v of two weights that should be 1."""
    return (w[..., 0] * w[..., 1] - 1) ** 2 / 2


def cosines(w: Array) -> tuple[Array, Array]:
    """The sixth tutorial's: a straight ravine with ripples. Loss and gradient."""
    x, y = w
    loss = (x**2 + 9 * y**2) / 2 + 0.3 * xp.cos(8 * x) * xp.cos(8 * y)
    in_x = x - 2.4 * xp.sin(8 * x) * xp.cos(8 * y)
    in_y = 9 * y - 2.4 * xp.cos(8 * x) * xp.sin(8 * y)
    return loss, xp.stack([in_x, in_y])


def samples() -> list[tuple[float, float]]:
    """Inputs and targets that a network v tanh(u x) of two weights is fitted to."""
    x = Stream("inputs", 0).uniform(SAMPLES, -2, 2, "float64")
    y = 1.2 * xp.tanh(1.5 * x) + 0.35 * Stream("targets", 0).normal(SAMPLES, "float64")
    return [(round(float(a), 2), round(float(b), 2)) for a, b in zip(x, y)]


def batch_loss(batch: int) -> Callable[[Tensor], Tensor]:
    """The mean squared error of v tanh(u x), halved, on the batch of this number; 0: on all."""
    chosen = samples()
    if batch:
        chosen = chosen[BATCH * (batch - 1) : BATCH * batch]

    def loss(w: Tensor) -> Tensor:
        total = Tensor(0.0)
        for x, y in chosen:
            total = total + (w[..., 1] * ops.tanh(w[..., 0] * x) - y) ** 2
        return total / (2 * len(chosen))

    return loss


@functools.cache
def digits_slice() -> dict[str, Any]:
    """The plane: its losses over a grid (n, n), and the B-spline through them (n + 2, n + 2).

    ``reach`` is how far the grid goes from w, ``scale`` the size of R-SAM's draw along its axes.
    """
    from scipy.ndimage import spline_filter

    told = json.loads(SLICE.read_text(encoding="utf-8"))
    coefficients = spline_filter(told["losses"], order=3, mode="mirror").tolist()
    rows = [[row[1], *row, row[-2]] for row in coefficients]  # mirrored at both ends
    rows = [rows[1], *rows, rows[-2]]
    told["coefficients"] = [[round(c, 9) for c in row] for row in rows]
    return told


def digits(w: Array) -> tuple[Array, Array]:
    """The cubic spline through the losses of the slice; not a number outside of its grid."""
    from scipy.interpolate import NdBSpline

    told = digits_slice()
    rows, reach = told["coefficients"], told["reach"]
    apart = 2 * reach / (len(rows) - 3)
    knots = [-reach + apart * i for i in range(-3, len(rows) + 1)]
    spline = NdBSpline((knots, knots), rows, 3, extrapolate=False)
    loss, in_x, in_y = (float(spline(w[::-1], nu=nu)) for nu in ((0, 0), (0, 1), (1, 0)))
    return xp.asarray(loss), xp.array([in_x, in_y])


OWN = ("ravine", "cosines", "batches", "digits")
NAMES = (*SURFACES, *OWN)


def ground(name: str, batch: int = 0) -> Ground:
    """The ground of a name in `NAMES`; ``batch`` means something to `batches` alone."""
    with use_backend("numpy"):
        if name == "digits":
            return Ground(name, digits, tuple(digits_slice()["scale"]))
        if name == "cosines":
            return Ground(name, cosines)
        if name == "batches":
            surface = Surface(name, "a network of two weights", (batch_loss(batch),))
        elif name == "ravine":
            surface = Surface(name, "a ravine", (ravine,))
        else:
            surface = SURFACES[name]
        return Ground(name, Asked(surface))
