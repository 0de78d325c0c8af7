"""Lanczos' iteration: a large symmetric matrix, seen from one vector, as a small tridiagonal one.

With orthonormal vectors q_1, q_2, ..., each a product of the matrix with the one before, made
orthogonal to all before it, Q^T H Q is tridiagonal. Its eigenvalues approach those of H, from both
ends of the spectrum at once (Golub and Van Loan, Matrix Computations, chapter 10).

Where there is no room for more vectors the iteration goes on from the best approximations of
eigenvectors that it has, and what the last product left of them (thick restart: Wu and Simon, SIAM
J. Matrix Anal. Appl. 22, 2000). Q^T H Q is then an arrow, and tridiagonal from its point on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rsam_backends.base import Array
from rsam_ref.algorithms.sam import norm
from rsam_ref.sharpness.hessian import Product, precision

LARGE, HELD = 10**6, 10
"""Of vectors with more numbers than that so many are held."""


def room(like: Array) -> int | None:
    """How many vectors like that are held; None for any number."""
    return HELD if math.prod(like.shape) > LARGE else None


class Lanczos:
    """The iteration from ``start`` (P,); memory: a vector like it for every step.

    Every vector is made orthogonal to all before it, twice: without that, rounding lets copies of
    the largest eigenvalue appear as if they were others. With ``window`` only the newest so many
    are there: the tridiagonal matrix is all that can be had then, with such copies.
    """

    def __init__(self, product: Product, start: Array, *, window: int | None = None) -> None:
        self.product = product
        self.window = window
        self.basis = [start / norm(start)]
        self.diagonal: list[float] = []
        self.arrow: list[float] = []
        self.beside: list[float] = []
        self._left = 0.0

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
        self._append(self._rest / self._beta, self._beta)

    def start_anew(self, vector: Array) -> None:
        """The next vector is another one, beside the basis, which H leads nowhere out of."""
        rest = orthogonal(vector, self.basis)
        self._left += self._beta
        self._append(rest / norm(rest), 0.0)

    def restart(self, kept: Sequence[int]) -> None:
        """Of the basis only these eigenvectors of the small matrix stay."""
        values, vectors = self.eigenpairs()
        self.basis = [self.vector(vectors[:, i]) for i in kept]
        self.diagonal = [values[i] for i in kept]
        self.arrow = [self._beta * float(vectors[-1, i]) for i in kept]
        self.beside = []

    def _append(self, vector: Array, beside: float) -> None:
        if not self.arrow or len(self.basis) > len(self.arrow):
            self.beside.append(beside)  # the point of an arrow is beside all of its shaft
        self.basis.append(vector)
        if self.window is not None:
            del self.basis[: -self.window]

    def eigenpairs(self) -> tuple[list[float], Any]:
        """The eigenvalues of the small matrix (m, m), ascending, and its vectors (m, m)."""
        from scipy.linalg import eigh, eigh_tridiagonal

        if self.arrow:
            values, vectors = eigh(self._matrix())
        else:
            values, vectors = eigh_tridiagonal(self.diagonal, self.beside)
        return [float(value) for value in values], vectors

    def _matrix(self) -> list[list[float]]:
        """Q^T H Q (m, m) after a restart."""
        m, point = len(self.diagonal), len(self.arrow)
        rows = [[0.0] * m for _ in range(m)]
        for i, value in enumerate(self.diagonal):
            rows[i][i] = value
        for i, value in enumerate(self.arrow):
            rows[i][point] = rows[point][i] = value
        for i, value in enumerate(self.beside[: m - point - 1], start=point):
            rows[i][i + 1] = rows[i + 1][i] = value
        return rows

    def residual(self, coefficients: Sequence[float]) -> float:
        """The length of H q - value q for the eigenvector q with these coefficients."""
        return self._left + self._beta * abs(float(coefficients[-1]))

    @property
    def rounding(self) -> float:
        """How much of every H q may be rounding: the precision, for a vector's every number."""
        start = self.basis[0]
        largest = max(map(abs, self.eigenpairs()[0]))
        return precision(start) * math.prod(start.shape) ** 0.5 * largest

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
