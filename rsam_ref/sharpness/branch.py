"""The smooth branch that a loss is on at some weights: what its Hessian is the Hessian of.

A ReLU has a kink, and so has the choice of a window's largest value. A network's loss is smooth
between kinks; but a ResNet-20 on 200 images has 40 million ReLUs, and along any direction the next
kink is some 1e-10 away. A difference of gradients over a longer way takes the jumps for curvature,
and over so short a way it has no digits. Here the ReLUs that are open at w stay open, the others
shut, and every window keeps its place, wherever the function is asked: it is the loss itself up to
the next kink, and smooth beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rsam_backends import kernels_replaced, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.sam import LossAndGrad
from rsam_ref.autograd.ops_nn import pool_at, pool_places


class Branch:
    """``loss_and_grad`` with every ReLU and every pooled window as it is at w (P,).

    It may be any function that runs a model of rsam_ref's ops, in the same order each time, in this
    thread. Other kinks (of abs, max, maximum) stay. Memory: a byte for every ReLU.
    """

    def __init__(self, loss_and_grad: LossAndGrad, w: Array) -> None:
        self.loss_and_grad = loss_and_grad
        self.kept: list[Array] = []
        self._ask(w, self._keep)

    def __call__(self, w: Array) -> tuple[Any, Array]:
        """The loss of this branch at w, and its gradient."""
        kept = iter(self.kept)
        return self._ask(w, lambda choice: next(kept))

    def _keep(self, choice: Callable[[], Array]) -> Array:
        self.kept.append(choice())
        return self.kept[-1]

    def _ask(self, w: Array, chosen: Callable[[Callable[[], Array]], Array]) -> tuple[Any, Array]:
        def relu(x: Array) -> tuple[Array, Any]:
            is_open = chosen(lambda: ~(x <= 0))
            return xp.where(is_open, x, 0), (lambda g: g * is_open,)

        def max_pool2d(x: Array, **options: Any) -> tuple[Array, Any]:
            return pool_at(x, chosen(lambda: pool_places(x, **options)), **options)

        own = {"relu": relu, "max_pool2d": max_pool2d, "_batch_norm_relu": None, "_add_relu": None}
        with kernels_replaced(own):
            return self.loss_and_grad(w)
