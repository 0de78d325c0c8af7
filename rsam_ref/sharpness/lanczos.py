"""Lanczos' iteration: a large symmetric matrix, seen from one vector, as a small tridiagonal one.

With orthonormal vectors q_1, q_2, ..., each a product of the matrix with the one before, made
orthogonal to all before it, Q^T H Q is tridiagonal. Its eigenvalues approach those of H, from both
ends of the spectrum at once (Golub and Van Loan, Matrix Computations, chapter 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsam_backends.base import Array
from rsam_ref.algorithms.sam import norm
from rsam_ref.sharpness.hessian import Product


class Lanczos:
    """The iteration from ``start`` (P,); memory: a vector like it for every step.

    Every vector is made orthogonal to all before it, twice: without that, rounding lets copies of
    the largest eigenvalue appear as if they were others.
    """

    def __init__(self, product: Product, start: Array) -> None:
        self.product = product
        self.basis = [start / norm(start)]
        self.diagonal: list[float] = []
        self.beside: list[float] = []

    def step(self) -> float:
        """One product; the length of what it has that is not in the basis yet."""
        newest = self.basis[-1]
        image = self.product(newest)
        self.diagonal.append(float(newest @ image))
        self._rest = orthogonal(image, self.basis)
        self._beta = float(norm(self._rest))
        return self._beta

    def go_on(self) -> None:
        """The next vector is what the last product left."""
        self.beside.append(self._beta)
        self.basis.append(self._rest / self._beta)

    def start_anew(self, vector: Array) -> None:
        """The next vector is another one, beside the basis, which H leads nowhere out of."""
        rest = orthogonal(vector, self.basis)
        self.beside.append(0.0)
        self.basis.append(rest / norm(rest))

    def eigenpairs(self) -> tuple[list[float], Any]:
        """The eigenvalues of the tridiagonal matrix (m, m), ascending, and its vectors (m, m)."""
        from scipy.linalg import eigh_tridiagonal

        values, vectors = eigh_tridiagonal(self.diagonal, self.beside)
        return [float(value) for value in values], vectors

    def vector(self, coefficients: Sequence[float]) -> Array:
        """The unit vector (P,) with these coefficients in the basis."""
        total = sum((float(c) * q for c, q in zip(coefficients, self.basis)), start=0.0)
        return total / norm(total)


def orthogonal(v: Array, basis: Sequence[Array]) -> Array:
    """What remains of v (P,) beside the span of the orthonormal vectors of ``basis``."""
    for _ in range(2):  # what rounding leaves of the first time, the second removes
        for q in basis:
            v = v - (q @ v) * q
    return v
