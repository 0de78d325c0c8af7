"""The Hessian's eigenvalues at both ends, its steepest curvatures, in loss per weight^2.

Lanczos' iteration needs nothing but products with vectors, and one run serves both ends: the
largest eigenvalues say how sharp the loss is, the lowest whether it bends down anywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rsam_backends import Stream, normal_like
from rsam_backends.base import Array
from rsam_ref.algorithms.sam import LossAndGrad, norm
from rsam_ref.sharpness.branch import Branch
from rsam_ref.sharpness.estimate import Estimate
from rsam_ref.sharpness.hessian import (
    Product,
    block,
    embedded,
    extrapolated_product,
    hessian_product,
    images,
    precision,
    product_at,
)
from rsam_ref.sharpness.lanczos import Lanczos, room


@dataclass(frozen=True, slots=True)
class Eigenvalues:
    """The largest eigenvalues of a Hessian, and its lowest."""

    values: list[float]
    """The largest first."""
    bounds: list[float]
    """For each value a distance within which an eigenvalue lies: the length of H q - value q for a
    unit vector q, with what is known of H q's own error. It speaks of the loss on these samples
    alone, and not of the value's rank: an eigenvalue may have been missed."""
    gradients: int
    """How many gradients it cost; a product that the loss can do itself counts as two."""
    lowest: list[float] = field(default_factory=list)
    """The lowest first."""
    lowest_bounds: list[float] = field(default_factory=list)
    vectors: list[Array] = field(default_factory=list, repr=False, compare=False)
    """The unit vectors q (P,) of ``values``, then those of ``lowest``."""


def hessian_eigenvalues(
    loss_and_grad: LossAndGrad,
    w: Array,
    k: int = 1,
    *,
    lowest: int = 0,
    part: slice | None = None,
    iterations: int = 100,
    tolerance: float = 1e-4,
    stream: Stream,
) -> Eigenvalues:
    """The k largest eigenvalues of the Hessian at w (P,) and the ``lowest``, by Lanczos' iteration.

    It ends when what is left of every H q - value q is at most ``tolerance`` times the largest
    size of those eigenvalues, or after ``iterations`` products; the bounds say how far it came.
    From one start the iteration sees one vector of every eigenspace; where that space is used up it
    starts anew beside it. Memory: ``iterations`` vectors like w; of more than a million weights
    `HELD` of them, or twice the number of eigenvalues, by restarts (lanczos.py).

    Where the loss has its own products, the value is q . H q and the bound is ||H q - value q||,
    both as the iteration has them, and rounding. Else H q is extrapolated (hessian.py), and the
    bound is the sum of ||H q - value q||, of the extrapolation's error, and of how far a difference
    over 1e-5 of the weights disagrees with it: a kink shows there that is in the loss and that
    `Branch` leaves.

    With ``part`` it is the Hessian of the weights w[part] alone, of a layer say, all others held.
    """
    exact = getattr(loss_and_grad, "hessian_product", None) is not None
    own = product_at(loss_and_grad, w) if exact else None
    branch = loss_and_grad if exact else Branch(loss_and_grad, w)
    gradients = 0 if exact else 1
    if own is not None and part is not None:
        own = block(own, w, part)

    def counted(v: Array) -> tuple[Any, Array]:
        nonlocal gradients
        gradients += 1
        return branch(v)

    def product(v: Array) -> Array:
        nonlocal gradients
        if own is None:
            return hessian_product(counted, w, v)
        gradients += 2
        return own(v)

    def whole(q: Array) -> tuple[Array, float]:
        image, error = extrapolated_product(counted, w, q)
        near = hessian_product(counted, w, q, times=1 / 3)
        return image, error + float(norm(near - image))

    def checked(q: Array) -> tuple[Array, float]:
        if part is None:
            return whole(q)
        image, error = whole(embedded(q, w, part))
        return image[part], error

    found = eigenvalues_of(
        product if part is None or exact else block(product, w, part),
        None if exact else checked,
        w if part is None else w[part],
        k,
        lowest=lowest,
        iterations=iterations,
        tolerance=tolerance,
        stream=stream,
    )
    return replace(found, gradients=gradients)


def eigenvalues_of(
    product: Product,
    checked: Callable[[Array], tuple[Array, float]] | None,
    w: Array,
    k: int,
    *,
    lowest: int = 0,
    iterations: int = 100,
    tolerance: float = 1e-4,
    stream: Stream,
) -> Eigenvalues:
    """The ends of any symmetric matrix's spectrum, by products with vectors like w (P,).

    ``checked`` is the product once more, as good as it can be had, with a bound of its error; the
    values and their bounds are made of it, or for None, where products are exact to rounding, of
    the iteration's own. The gradients are not counted here.
    """
    size = math.prod(w.shape)
    if not 1 <= k <= size:
        raise ValueError(f"k counts eigenvalues, 1 to the {size} weights, not {k}")
    if not 0 <= lowest <= size:
        raise ValueError(f"lowest counts eigenvalues, 0 to the {size} weights, not {lowest}")
    wanted = min(k + lowest, size)
    if iterations < wanted:
        raise ValueError(
            f"{wanted} eigenvalues need at least {wanted} iterations, not {iterations}"
        )
    run = _run(product, w, k, lowest, min(iterations, size), tolerance, stream)
    values, coefficients = run.eigenpairs()
    m = len(values)
    found = []
    for i in [*range(m - 1, m - 1 - k, -1), *range(lowest)]:
        q = run.vector(coefficients[:, i])
        if checked is None:
            value, bound = values[i], run.residual(coefficients[:, i]) + run.rounding
        else:
            image, error = checked(q)
            value = float(q @ image)
            bound = float(norm(image - value * q)) + error
        found.append((value, bound, q))
    top = sorted(found[:k], key=lambda pair: -pair[0])
    bottom = sorted(found[k:], key=lambda pair: pair[0])
    return Eigenvalues(
        [value for value, _, _ in top],
        [bound for _, bound, _ in top],
        0,
        [value for value, _, _ in bottom],
        [bound for _, bound, _ in bottom],
        [q for _, _, q in top + bottom],
    )


def _run(
    product: Product,
    w: Array,
    k: int,
    lowest: int,
    limit: int,
    tolerance: float,
    stream: Stream,
) -> Lanczos:
    """Lanczos' iteration until both ends are as near as ``tolerance``, ``limit`` steps at most."""
    run, held = Lanczos(product, normal_like(w, stream)), room(w)
    for taken in itertools.count(1):
        beta = run.step()
        m = len(run.diagonal)
        values, vectors = run.eigenpairs()
        scale = max(abs(value) for value in values)
        wanted = _ends(m, k, lowest)
        left = max(beta * abs(float(vectors[-1, i])) for i in wanted)
        met = m >= min(k + lowest, limit) and left <= tolerance * scale
        closed = beta <= precision(w) ** 0.5 * scale
        if taken == limit or (met and not closed):
            break
        if held is not None and m >= max(held, 2 * (k + lowest) + 2):
            more = (m // 2 - k - lowest) // (2 if lowest else 1)
            run.restart(_ends(m, k + more, lowest + more if lowest else 0))
        if closed:  # H leads nowhere new from here, which says nothing of what lies elsewhere
            run.start_anew(normal_like(w, stream))
        else:
            run.go_on()
    return run


def _ends(m: int, k: int, lowest: int) -> list[int]:
    """The places of the k largest and the lowest among m ascending values."""
    return [i for i in range(m) if i < lowest or i >= m - k]


def curvature_over_parts(parts: Sequence[LossAndGrad], w: Array, q: Array) -> Estimate:
    """The curvature q . H q along a unit vector q (P,), and its spread over parts of the samples.

    ``parts`` are the mean losses on disjoint parts, equally large, of the samples; their mean is
    the loss. Where q is an eigenvector of that loss the mean is its eigenvalue, and the interval
    says how far other samples would have moved the curvature along this q. For an end of the
    spectrum q was chosen as the steepest on these samples, so on others it is less steep than that:
    the interval is that of a fixed direction, and no bound on their eigenvalue.
    """
    return curvatures_over_parts(parts, w, [q])[0]


def curvatures_over_parts(
    parts: Sequence[LossAndGrad], w: Array, vectors: Sequence[Array]
) -> list[Estimate]:
    """`curvature_over_parts` along each of several unit vectors (P,)."""
    curvatures = [
        [float(q @ image) for q, image in images(product_at(part, w, keep=False), vectors)]
        for part in parts
    ]
    return [Estimate.of(of_one) for of_one in zip(*curvatures)]
