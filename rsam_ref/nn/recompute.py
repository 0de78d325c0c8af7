"""Memory for time: blocks whose inner values are not kept, but computed again on the way back.

A network of B blocks then keeps B inputs and the inner values of one block, instead of those of
all, for one more forward pass a step (Chen, Xu, Zhang, Guestrin 2016, "sublinear memory cost").
The gradient is the same, bit for bit: the second time the same dropout masks are drawn, and batch
norm's running statistics stay.
"""

from __future__ import annotations

import copy
from typing import Any

from rsam_backends.base import Array
from rsam_ref.autograd.tensor import Leaf, Node, Tensor, no_grad, recording
from rsam_ref.nn.layers import Sequential
from rsam_ref.nn.module import Module
from rsam_ref.nn.passes import current_pass, passing


def recompute_blocks(model: Module, on: bool = True) -> int:
    """Let a model's blocks be recomputed, or no longer; returns how many there are.

    A block is a module in a `Sequential` that has modules within it: the residual blocks of a
    ResNet, the blocks of a vision transformer.
    """
    blocks = [
        block
        for module in model.modules().values()
        if isinstance(module, Sequential)
        for block in module.layers
        if next(block.children(), None) is not None
    ]
    for block in blocks:
        if on:
            block.forward = _Recomputed(block)  # type: ignore[method-assign]
        else:
            vars(block).pop("forward", None)
    return len(blocks)


class _Recomputed:
    """A block's forward, of one input, that keeps the input alone."""

    def __init__(self, block: Module) -> None:
        self.block = block

    def __call__(self, x: Tensor) -> Tensor:
        forward = type(self.block).forward
        if not recording():
            return forward(self.block, x)
        stream = copy.deepcopy(current_pass().stream)  # as it stands before the block's dropout
        with no_grad():
            value = forward(self.block, x)._data
        block, kept, wanted = self.block, x._data, x.node is not None

        def vjps(g: Array) -> tuple[Any]:
            inner = Tensor.over(kept, Leaf(kept.dtype) if wanted else None)
            with passing(stream=stream, move_statistics=False):
                again = forward(block, inner)
            if again.node is not None:
                again.backward(g)
            return (inner.node.total if isinstance(inner.node, Leaf) else None,)

        return Tensor.over(value, Node((x.node,), vjps, "recompute"))
