"""The Hessian's trace, its total curvature, from products with random signs v.

    tr H = E[v . H v],   and of the weights of one layer, tr H_ss = E[v_s . (H v)_s]

(Hutchinson, Communications in Statistics 18, 1989). Most of the spread comes from the few large
eigenvalues. Hutch++ takes these out first: with Q an orthonormal basis of H S, S random signs,

    tr H = tr(Q^T H Q) + tr((1 - Q Q^T) H (1 - Q Q^T)),

where the first is computed and the second estimated (Meyer, Musco, Musco and Woodruff, SOSA 2021).

How far the estimate spreads, the probes say better than their few values do. For random signs and
any M

    Var(v . M v) <= 2 ||M||_F^2 = 2 E||M v||^2,

an equation for a symmetric M but for its diagonal, which signs leave to no chance. So the standard
error is made of the lengths of M v, with M = (1 - Q Q^T) H (1 - Q Q^T), and of the part's rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rsam_backends import Stream
from rsam_backends.base import Array
from rsam_ref.algorithms.sam import norm
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.hessian import TOGETHER, Product, batched, images, precision
from rsam_ref.sharpness.lanczos import orthogonal
from rsam_ref.sharpness.probes import signs_like


@dataclass(frozen=True, slots=True)
class TraceEstimate:
    """A trace, with a 95 % interval over its probes."""

    total: Estimate
    """Of the whole matrix."""
    shares: list[Estimate]
    """Of the blocks of each part: they add up to the total if the parts are all weights. Each has
    its own interval; they come of the same probes, so the intervals do not add up."""
    products: int
    """How many products it cost."""
    of_samples: list[list[float]]
    """Of the matrix of each part of the samples the same estimates: the total's, then the shares'.
    They add up, each by its share of the samples, to those of the whole."""


def hutchinson(
    product: Product,
    w: Array,
    *,
    probes: int = 30,
    parts: Sequence[slice] = (),
    stream: Stream,
) -> TraceEstimate:
    """The trace of a symmetric matrix (P, P) by ``probes`` products with random signs like w (P,).

    ``parts`` are the places of layers, or of other groups, in w. The interval is wider than it need
    be where much of the matrix is on its diagonal.
    """
    return _estimate(_Matrix([(1.0, product)], w, parts), [], probes, stream)


def hutch_plus_plus(
    product: Product | Sequence[tuple[float, Product]],
    w: Array,
    *,
    products: int = 30,
    parts: Sequence[slice] = (),
    stream: Stream,
) -> TraceEstimate:
    """The trace by Hutch++, with as many products: a third each for H S, for Q, and for probes.

    The interval is that of the estimated part, given Q. Memory: a third of the products in vectors.

    In place of a product there may be those of parts of the samples, each behind its share of them,
    which add up to the whole: the same vectors estimate the traces of the parts too.
    """
    matrix = _Matrix([(1.0, product)] if callable(product) else product, w, parts)
    third = products // 3
    if third < 2:
        raise ValueError(f"Hutch++ needs at least 6 products, 2 for each third, not {products}")
    basis: list[Array] = []
    drawn = (signs_like(w, stream) for _ in range(third))
    for image, _ in matrix.look(drawn):
        rest = orthogonal(image, basis)
        if float(norm(rest)) > precision(w) ** 0.5 * float(norm(image)):
            basis.append(rest / norm(rest))
    found = _estimate(matrix, basis, products - 2 * third, stream)
    return replace(found, products=found.products + third)


class _Matrix:
    """A matrix, the sum by shares of those of parts of the samples, and the places to look at."""

    def __init__(
        self, samples: Sequence[tuple[float, Product]], w: Array, parts: Sequence[slice]
    ) -> None:
        self.samples, self.w = samples, w
        self.places = [slice(0, math.prod(w.shape)), *parts]

    def look(self, vectors: Iterable[Array]) -> Iterator[tuple[Array, list[list[float]]]]:
        """For each u (P,) the image H u, and u . H_n u of all samples' parts n, by place."""
        for some in batched(vectors, TOGETHER):
            wholes: list[Array] = [0 * u for u in some]
            values: list[list[list[float]]] = [[] for _ in some]
            for share, product in self.samples:
                for i, (u, image) in enumerate(images(product, some)):
                    wholes[i] = wholes[i] + share * image
                    values[i].append([float(u[part] @ image[part]) for part in self.places])
            yield from zip(wholes, values)

    def added_up(self, by_samples: Sequence[Sequence[float]]) -> list[float]:
        """The whole's values by place, from those of the samples' parts."""
        shares = [share for share, _ in self.samples]
        return [math.fsum(s * x for s, x in zip(shares, column)) for column in zip(*by_samples)]


def _estimate(
    matrix: _Matrix, basis: Sequence[Array], probes: int, stream: Stream
) -> TraceEstimate:
    """The trace within the span of ``basis``, and the rest from probes at right angles to it.

    With u = (1 - Q Q^T) v the share of the weights s is sum_q q_s . (H q)_s + E[u_s . (H u)_s].
    """
    if probes < 2:
        raise ValueError(f"an interval needs at least 2 probes, not {probes}")
    within = [values for _, values in matrix.look(basis)]
    drawn = (orthogonal(signs_like(matrix.w, stream), basis) for _ in range(probes))
    beside, squares = [], []
    for image, values in matrix.look(drawn):
        beside.append(values)
        squares.append([_length_beside(image, basis, place) for place in matrix.places])
    of_samples = [
        [
            math.fsum(values[n][i] for values in within)
            + math.fsum(values[n][i] for values in beside) / probes
            for i in range(len(matrix.places))
        ]
        for n in range(len(matrix.samples))
    ]
    means = matrix.added_up(of_samples)
    errors = [math.sqrt(2 * math.fsum(column)) / probes for column in zip(*squares)]
    total, *shares = (Estimate(mean, error, probes) for mean, error in zip(means, errors))
    return TraceEstimate(total, shares, len(basis) + probes, of_samples)


def _length_beside(image: Array, basis: Sequence[Array], place: slice) -> float:
    """||(1 - Q Q^T) x||^2 for the x (P,) that is the image at this place and 0 elsewhere."""
    x = image[place]
    return max(0.0, float(x @ x) - math.fsum(float(q[place] @ x) ** 2 for q in basis))
