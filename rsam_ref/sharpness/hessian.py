"""The largest eigenvalues of the loss's Hessian: its steepest curvatures, in loss per weight^2.

The Hessian itself (P, P) is never made. Its product with a vector v is a difference of gradients,

    H v ~ (grad L(w + h v) - grad L(w - h v)) / 2h,

and Lanczos' iteration needs nothing but such products. Use float64: the difference of two float32
gradients has about four digits. The gradients are those of the `Branch` of the loss at w, since a
ReLU's kink between the two places would be taken for curvature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rsam_backends import Stream, to_device, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.sam import LossAndGrad, norm
from rsam_ref.sharpness.branch import Branch

PRECISION = {4: 2.0**-23, 8: 2.0**-52}  # of a number of so many bytes, relative to its size


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
    """How many gradients it cost: one at w, two a product, and two a value for its bound."""


def hessian_product(loss_and_grad: LossAndGrad, w: Array, v: Array, times: float = 1.0) -> Array:
    """H v (P,) by a central difference, two gradients; give a network's loss as its `Branch` at w.

    The distance between the gradients balances their rounding against the third derivative: the
    cube root of the precision, relative to 1 + ||w||, and ``times`` as much.
    """
    length = float(norm(v))
    if length == 0:
        return xp.zeros_like(w)
    h = times * PRECISION[w.dtype.itemsize] ** (1 / 3) * (1 + float(norm(w))) / length
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
    """The k largest eigenvalues of the Hessian at w (P,), by Lanczos' iteration.

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
    loss_and_grad = Branch(loss_and_grad, w)
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
        closed = beta <= PRECISION[w.dtype.itemsize] ** 0.5 * scale
        if j + 1 == limit or (met and not closed):
            bounds = []
            for value, vector in zip(values, vectors.T):
                q = to_device(vector) @ basis[: j + 1]
                again = hessian_product(loss_and_grad, w, q, times=1 / 3)
                bounds.append(float(norm(again - value * q)))
            return Eigenvalues(values, bounds, 1 + 2 * (j + 1) + 2 * len(values))
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
