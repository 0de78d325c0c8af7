"""The largest eigenvalues of the loss's Hessian: its steepest curvatures, in loss per weight^2.

The Hessian itself (P, P) is never made. Its product with a vector v is a difference of gradients,

    H v ~ (grad L(w + h v) - grad L(w - h v)) / 2h,

and Lanczos' iteration needs nothing but such products. In float64, and with h as small as its
rounding lets it be: where w + h v lies beyond a kink of a ReLU the gradient jumps, and the jump,
divided by h, would be taken for curvature. The Hessian knows nothing of kinks. Thousands of units
times thousands of samples have many of them close to w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rsam_backends import Stream, to_device, xp
from rsam_backends.base import Array
from rsam_ref.sam import LossAndGrad, norm

CLOSED = 1e-6  # what is left of a product, relative to the eigenvalues, where it is only rounding
STEP = 1e-9  # h, relative to 1 + ||w||; the rounding of the gradients grows by some 1e-16 / h


@dataclass(frozen=True, slots=True)
class Eigenvalues:
    """The largest eigenvalues of a Hessian."""

    values: list[float]
    """The largest first."""
    bounds: list[float]
    """For each value a distance within which an eigenvalue lies: the length of H q - value q for a
    unit vector q. H q is computed once more for it, with another h, so that an error of the
    gradient differences shows."""
    gradients: int
    """How many gradients it cost: two a product, and two a value for its bound."""


def hessian_product(loss_and_grad: LossAndGrad, w: Array, v: Array, step: float = STEP) -> Array:
    """H v (P,) at w (P,) in float64, by a central difference: two gradients."""
    if w.dtype != "float64":
        raise TypeError(
            f"the Hessian needs weights in float64, not {w.dtype}: differences of gradients over "
            "so short a way have no digits in less (load_trained(path, dtype='float64'))"
        )
    length = float(norm(v))
    if length == 0:
        return xp.zeros_like(w)
    h = step * (1 + float(norm(w))) / length
    ahead, behind = loss_and_grad(w + h * v)[1], loss_and_grad(w - h * v)[1]
    return (ahead - behind) / (2 * h)


def hessian_eigenvalues(
    loss_and_grad: LossAndGrad,
    w: Array,
    k: int = 1,
    *,
    iterations: int = 100,
    tolerance: float = 1e-4,
    stream: Stream,
) -> Eigenvalues:
    """The k largest eigenvalues of the Hessian at w (P,) in float64, by Lanczos' iteration.

    It ends when what is left of every H q - value q is at most ``tolerance`` times the largest
    eigenvalue's size, or after ``iterations`` products; the bounds say how far it came. Every new
    vector is made orthogonal to all before it, twice: without that, rounding lets copies of the
    largest eigenvalue appear as if they were others. Memory: ``iterations`` vectors like w.

    From one start the iteration sees one vector of every eigenspace; where that space is used up it
    starts anew beside it (Golub and Van Loan, Matrix Computations, chapter 10).
    """
    size = int(w.size)
    if not 1 <= k <= size:
        raise ValueError(f"k counts eigenvalues, 1 to the {size} weights, not {k}")
    if iterations < k:
        raise ValueError(f"{k} eigenvalues need at least {k} iterations, not {iterations}")
    limit = min(iterations, size)
    basis = xp.empty((limit, size), w.dtype)
    start = stream.normal(size, w.dtype)
    basis[0] = start / norm(start)
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        j = len(diagonal)
        image = hessian_product(loss_and_grad, w, basis[j])
        diagonal.append(float(basis[j] @ image))
        rest = _orthogonal(image, basis[: j + 1])
        beta = float(norm(rest))
        values, vectors = _ritz(diagonal, beside, k)
        scale = max(abs(v) for v in values)
        met = j + 1 >= k and beta * abs(vectors[-1]).max() <= tolerance * scale
        closed = beta <= CLOSED * scale
        if j + 1 == limit or (met and not closed):
            bounds = []
            for value, vector in zip(values, vectors.T):
                q = to_device(vector) @ basis[: j + 1]
                again = hessian_product(loss_and_grad, w, q, 3 * STEP)
                bounds.append(float(norm(again - value * q)))
            return Eigenvalues(values, bounds, 2 * (j + 1) + 2 * len(values))
        if closed:  # H leads nowhere new from here, which says nothing of what lies elsewhere
            beta, rest = 0.0, _orthogonal(stream.normal(size, w.dtype), basis[: j + 1])
        beside.append(beta)
        basis[j + 1] = rest / norm(rest)


def _ritz(diagonal: list[float], beside: list[float], k: int) -> tuple[list[float], Any]:
    """The k largest eigenvalues of the tridiagonal matrix (m, m), and their vectors (m, k)."""
    from scipy.linalg import eigh_tridiagonal

    values, vectors = eigh_tridiagonal(diagonal, beside)
    return [float(value) for value in values[::-1][:k]], vectors[:, ::-1][:, :k]


def _orthogonal(v: Array, basis: Array) -> Array:
    """What remains of v (P,) beside the span of the orthonormal rows of ``basis`` (m, P)."""
    for _ in range(2):  # what rounding leaves of the first time, the second removes
        v = v - (basis @ v) @ basis
    return v
