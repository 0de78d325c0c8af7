"""The Hessian of a loss, as its product with a vector: never as a matrix (P, P).

Where a loss can multiply with its Hessian itself (it has ``hessian_product(w, v)``), that is asked.
Everywhere else the product is a central difference of gradients,

    H v ~ (grad L(w + h v) - grad L(w - h v)) / 2h.

Use float64: the difference of two float32 gradients has about four digits. The gradients are those
of the `Branch` of the loss at w, since a ReLU's kink between the two places would be taken for
curvature. The vectors may be those of the backend in force, or PyTorch's, or JAX's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from rsam_backends import library_of
from rsam_backends.base import Array
from rsam_ref.algorithms.sam import LossAndGrad, norm
from rsam_ref.sharpness.branch import Branch

Product = Callable[[Array], Array]
"""v -> H v for a symmetric H: (P,) -> (P,)."""

PRECISION = {4: 2.0**-23, 8: 2.0**-52}  # of a number of so many bytes, relative to its size
FEWEST, LEVELS = 5, 10  # halvings of the first difference, at least, and differences at most
TOGETHER = 4  # vectors that a loss multiplies with its Hessian at once, for their memory
TRUST = 4.0  # how many times its estimate an error is taken for


def batched(things: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` things; the last may be shorter."""
    ahead = iter(things)
    while some := list(islice(ahead, size)):
        yield some


def precision(w: Array) -> float:
    """The distance of neighbouring numbers of w's type, relative to their size."""
    return PRECISION[w.dtype.itemsize]


def hessian_product(loss_and_grad: LossAndGrad, w: Array, v: Array, times: float = 1.0) -> Array:
    """H v (P,) by a central difference, two gradients; give a network's loss as its `Branch` at w.

    The distance between the gradients balances their rounding against the third derivative: the
    cube root of the precision, relative to 1 + ||w||, and ``times`` as much.
    """
    length = float(norm(v))
    if length == 0:
        return 0 * w
    h = times * precision(w) ** (1 / 3) * (1 + float(norm(w))) / length
    return _difference(loss_and_grad, w, v, h)


def extrapolated_product(loss_and_grad: LossAndGrad, w: Array, v: Array) -> tuple[Array, float]:
    """H v (P,) with an estimate of its error's length, by 12 to 20 gradients.

    Central differences over h, h/2, h/4, ... are extrapolated to h = 0; in their triangle each
    entry's distance to its neighbours, which other gradients took part in, estimates its error,
    truncation and rounding alike, and the entry with the smallest is returned (Ridders, Accurate
    computation of F'(x) and F'(x) F''(x), Advances in Engineering Software 4, 1982). The estimate
    is taken four times, and no error is believed to be below the rounding of the gradients' sizes.
    """
    length = float(norm(v))
    if length == 0:
        return 0 * w, 0.0
    h = precision(w) ** (1 / 7) * (1 + float(norm(w))) / length
    best, error = _difference(loss_and_grad, w, v, h), math.inf
    older = [best]
    for level in range(1, LEVELS):
        h /= 2
        newer = [_difference(loss_and_grad, w, v, h)]
        for j, entry in enumerate(older):
            newer.append(newer[j] + (newer[j] - entry) / (4 ** (j + 1) - 1))
            apart = max(float(norm(newer[-1] - newer[j])), float(norm(newer[-1] - entry)))
            if apart < error:
                best, error = newer[-1], apart
        if level >= FEWEST and float(norm(newer[-1] - older[-1])) > 2 * error:
            break  # shorter differences have fewer digits from here
        older = newer
    return best, TRUST * (error + precision(w) * float(norm(best)))


class OwnProduct:
    """v -> H v at w (P,) by the loss's own ``hessian_product``.

    A loss with ``products_at`` keeps, as long as this lives, what all products at w share; without
    ``keep`` it is shared by those that are asked for together, and no memory is held between them.
    """

    def __init__(
        self, loss: Any, w: Array, part: slice | None = None, *, keep: bool = True
    ) -> None:
        self.loss, self.w = loss, w
        kept: Any = getattr(loss, "products_at", None)
        if kept is None:
            self._kept: Any = None
        elif keep:
            self._kept = kept(w, part)
        else:
            self._kept = lambda vectors: loss.hessian_products(w, vectors, part)

    def __call__(self, v: Array) -> Array:
        """H v (P,)."""
        return self.several([v])[0]

    def several(self, vectors: Sequence[Array]) -> list[Array]:
        """H v (P,) for each."""
        if self._kept is None:
            return [self.loss.hessian_product(self.w, v) for v in vectors]
        return self._kept(vectors)

    def block(self, part: slice) -> Product:
        """The product with the block of w[part]; a loss with ``products_at`` takes it alone."""
        if self._kept is not None:
            return OwnProduct(self.loss, self.w, part)
        return lambda v: self(embedded(v, self.w, part))[part]


def product_at(loss_and_grad: LossAndGrad, w: Array, *, keep: bool = True) -> Product:
    """v -> H v at w (P,): the loss's own ``hessian_product``, or differences on its `Branch`.

    Without ``keep`` nothing is held for further products.
    """
    if getattr(loss_and_grad, "hessian_product", None) is not None:
        return OwnProduct(loss_and_grad, w, keep=keep)
    branch = Branch(loss_and_grad, w)
    return lambda v: hessian_product(branch, w, v)


def images(product: Product, vectors: Iterable[Array]) -> Iterator[tuple[Array, Array]]:
    """v and H v for each of several vectors, `TOGETHER` at a time where the product shares work."""
    several: Any = getattr(product, "several", None)
    for some in batched(vectors, 1 if several is None else TOGETHER):
        yield from zip(some, [product(v) for v in some] if several is None else several(some))


def block(product: Product, w: Array, part: slice) -> Product:
    """The product with one block of the matrix: that of the weights w[part] among themselves."""
    if isinstance(product, OwnProduct):
        return product.block(part)
    return lambda v: product(embedded(v, w, part))[part]


def embedded(v: Array, w: Array, part: slice) -> Array:
    """A vector like w (P,) that is v at w[part] and 0 elsewhere."""
    return library_of(w).concatenate([0 * w[: part.start], v, 0 * w[part.stop :]])


def _difference(loss_and_grad: LossAndGrad, w: Array, v: Array, h: float) -> Array:
    ahead, behind = loss_and_grad(w + h * v)[1], loss_and_grad(w - h * v)[1]
    return (ahead - behind) / (2 * h)
