"""The density of the Hessian's eigenvalues, all of them, by stochastic Lanczos quadrature.

From a unit vector v, m steps of Lanczos' iteration give nodes t_i, the eigenvalues of the
tridiagonal matrix, and weights c_i^2, the squared FIRST components of its eigenvectors, with

    v . f(H) v ~ sum_i c_i^2 f(t_i),

exact for polynomials f of degree below 2m. The mean over random v is tr f(H) / P (Golub and Welsch,
Mathematics of Computation 23, 1969; Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38, 2017).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rsam_backends import Stream
from rsam_backends.base import Array
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.hessian import Product, precision
from rsam_ref.sharpness.lanczos import Lanczos, room
from rsam_ref.sharpness.probes import signs_like


@dataclass(frozen=True, slots=True)
class Density:
    """Where a symmetric matrix's eigenvalues lie, as the probes see it."""

    nodes: list[list[float]]
    """For every probe places on the axis of eigenvalues, ascending."""
    weights: list[list[float]]
    """For every probe the share of the eigenvalues at each place; they add up to 1."""

    def moment(self, power: int) -> Estimate:
        """The mean of the eigenvalues' powers, tr H^k / P, and its error over probes."""
        return Estimate.of(
            math.fsum(c * t**power for t, c in zip(nodes, weights))
            for nodes, weights in zip(self.nodes, self.weights)
        )

    def below(self, value: float) -> Estimate:
        """The share of eigenvalues below a value, and its error over probes."""
        return Estimate.of(
            math.fsum(c for t, c in zip(nodes, weights) if t < value)
            for nodes, weights in zip(self.nodes, self.weights)
        )

    def smoothed(self, places: Sequence[float], width: float) -> list[Estimate]:
        """The density per unit of eigenvalue at some places, each node a Gaussian of this width."""
        if not 0 < width < math.inf:
            raise ValueError(f"the width of a Gaussian is a finite number > 0, not {width}")
        height = 1 / (width * math.sqrt(2 * math.pi))
        return [
            Estimate.of(
                math.fsum(
                    c * height * math.exp(-(((place - t) / width) ** 2) / 2)
                    for t, c in zip(nodes, weights)
                )
                for nodes, weights in zip(self.nodes, self.weights)
            )
            for place in places
        ]


def spectral_density(
    product: Product,
    w: Array,
    *,
    probes: int = 10,
    steps: int = 40,
    stream: Stream,
    starts: Iterable[Array] | None = None,
) -> Density:
    """The density of the eigenvalues of a symmetric matrix (P, P), by probes * steps products.

    A probe is a vector of random signs like w (P,), unless ``starts`` gives the vectors. Its error
    has two parts: the spread over probes, which every estimate tells, and that of few steps, which
    shows where more of them change it. Memory: ``steps`` vectors like w; of more than a
    million weights `HELD`: copies of an eigenvalue that then appear share its weight (Greenbaum,
    Linear Algebra and its Applications 113, 1989).
    """
    if starts is None:
        if probes < 1:
            raise ValueError(f"probes must be at least 1, not {probes}")
        starts = (signs_like(w, stream) for _ in range(probes))
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    found = [_quadrature(product, start, min(steps, math.prod(w.shape))) for start in starts]
    return Density([nodes for nodes, _ in found], [weights for _, weights in found])


def _quadrature(product: Product, start: Array, steps: int) -> tuple[list[float], list[float]]:
    """The nodes and weights that one vector sees; fewer where it lies in a small invariant space.

    A node's weight is the squared first component of the tridiagonal matrix's eigenvector.
    """
    run = Lanczos(product, start, window=room(start))
    largest = 0.0
    for step in range(steps):
        beta = run.step()
        largest = max(largest, abs(run.diagonal[-1]), beta)
        if step + 1 == steps or beta <= precision(start) ** 0.5 * largest:
            break
        run.go_on()
    nodes, vectors = run.eigenpairs()
    return nodes, [float(c) ** 2 for c in vectors[0]]
