"""The Hessian's trace, its total curvature, from products with random signs v.

    tr H = E[v . H v],   and of the weights of one layer, tr H_ss = E[v_s . (H v)_s]

(Hutchinson, Communications in Statistics 18, 1989). Most of the spread comes from the few large
eigenvalues. Hutch++ takes these out first: with Q an orthonormal basis of H S, S random signs,

    tr H = tr(Q^T H Q) + tr((1 - Q Q^T) H (1 - Q Q^T)),

where the first is computed and the second estimated (Meyer, Musco, Musco and Woodruff, SOSA 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rsam_backends import Stream
from rsam_backends.base import Array
from rsam_ref.algorithms.sam import norm
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.hessian import Product, images, precision
from rsam_ref.sharpness.lanczos import orthogonal
from rsam_ref.sharpness.probes import signs_like


@dataclass(frozen=True, slots=True)
class TraceEstimate:
    """A trace, with Student's 95 % interval over its probes."""

    total: Estimate
    """Of the whole matrix."""
    shares: list[Estimate]
    """Of the blocks of each part: they add up to the total if the parts are all weights. Each has
    its own interval; they come of the same probes, so the intervals do not add up."""
    products: int
    """How many products it cost."""


def hutchinson(
    product: Product,
    w: Array,
    *,
    probes: int = 30,
    parts: Sequence[slice] = (),
    stream: Stream,
) -> TraceEstimate:
    """The trace of a symmetric matrix (P, P) by ``probes`` products with random signs like w (P,).

    ``parts`` are the places of layers, or of other groups, in w. Where one eigenvalue makes up much
    of the trace, the probes' values are skew, and the interval of a few is a little short.
    """
    return _estimate(product, w, [], probes, parts, stream)


def hutch_plus_plus(
    product: Product,
    w: Array,
    *,
    products: int = 30,
    parts: Sequence[slice] = (),
    stream: Stream,
) -> TraceEstimate:
    """The trace by Hutch++, with as many products: a third each for H S, for Q, and for probes.

    The interval is that of the estimated part, given Q. Memory: a third of the products in vectors.
    """
    third = products // 3
    if third < 2:
        raise ValueError(f"Hutch++ needs at least 6 products, 2 for each third, not {products}")
    basis: list[Array] = []
    drawn = (signs_like(w, stream) for _ in range(third))
    for _, image in images(product, drawn):
        rest = orthogonal(image, basis)
        if float(norm(rest)) > precision(w) ** 0.5 * float(norm(image)):
            basis.append(rest / norm(rest))
    found = _estimate(product, w, basis, products - 2 * third, parts, stream)
    return TraceEstimate(found.total, found.shares, found.products + third)


def _estimate(
    product: Product,
    w: Array,
    basis: Sequence[Array],
    probes: int,
    parts: Sequence[slice],
    stream: Stream,
) -> TraceEstimate:
    """The trace within the span of ``basis``, and the rest from probes at right angles to it.

    With u = (1 - Q Q^T) v the share of the weights s is sum_q q_s . (H q)_s + E[u_s . (H u)_s].
    """
    if probes < 2:
        raise ValueError(f"an interval needs at least 2 probes, not {probes}")
    wholes = [slice(0, math.prod(w.shape)), *parts]

    def terms(vectors: Iterable[Array]) -> Iterator[list[float]]:
        for u, image in images(product, vectors):
            yield [float(u[part] @ image[part]) for part in wholes]

    drawn = (orthogonal(signs_like(w, stream), basis) for _ in range(probes))
    computed = [math.fsum(column) for column in zip(*terms(basis))] or [0.0] * len(wholes)
    sums = []
    for known, values in zip(computed, zip(*terms(drawn))):
        rest = Estimate.of(values)
        sums.append(Estimate(known + rest.mean, rest.standard_error, rest.n))
    return TraceEstimate(sums[0], sums[1:], len(basis) + probes)
