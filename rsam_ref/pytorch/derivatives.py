"""A loss's gradient and its Hessian's products by autograd, and what autograd gets wrong.

`torch.autograd.grad` follows the paths from a loss to the weights. Where a function has none, it is
taken for constant, without a word; such functions are looked for, and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

OTHERWISE = "give the measures lambda w: objective(w), and they take differences of gradients"


def gradient(loss: Tensor, w: Tensor, *, again: bool = False) -> Tensor:
    """The gradient of a loss at w (P,), to be differentiated ``again`` or not.

    Raises ValueError where the loss depends on no weight, and for layers that are checkpointed in
    the way that hides their weights.
    """
    if not loss.requires_grad:
        raise ValueError(
            "the loss depends on no weight of the model: does it detach, or run under no_grad?"
        )
    if _passes(loss, "CheckpointFunctionBackward"):
        raise ValueError(
            "the model checkpoints layers with use_reentrant=True, which hides their weights from "
            "torch.autograd.grad: give use_reentrant=False"
        )
    return torch.autograd.grad(loss, w, create_graph=again)[0]


def products(loss: Tensor, w: Tensor, vectors: Sequence[Tensor]) -> list[Tensor]:
    """The Hessian of a loss at w times each v (P,), within `twice_differentiable`.

    All of them share the graph of one gradient. Raises as `differentiable_gradient` and
    `differentiated` do.
    """
    return differentiated(differentiable_gradient(loss, w), w, vectors)


def differentiable_gradient(loss: Tensor, w: Tensor) -> Tensor:
    """The gradient of a loss at w (P,), with its graph.

    Raises ArithmeticError where it is not finite, and NotImplementedError for a function that is
    marked as having no second derivative.
    """
    first = gradient(loss, w, again=True)
    if not bool(torch.isfinite(first.detach()).all()):
        raise ArithmeticError("the gradient is not finite at these weights: there is no Hessian")
    if _passes(first, "torch::autograd::Error"):
        raise NotImplementedError(f"a function is marked once_differentiable; {OTHERWISE}")
    return first


def differentiated(
    first: Tensor, w: Tensor, vectors: Sequence[Tensor], *, keep: bool = False
) -> list[Tensor]:
    """The derivative of first . v for each v (P,); the graph stays for more where it is to be kept.

    Raises NotImplementedError where a function has no second derivative.
    """
    if not first.requires_grad:  # a loss that is linear
        return [torch.zeros_like(w) for _ in vectors]
    found = []
    for i, v in enumerate(vectors, start=1):
        retained = keep or i < len(vectors)
        try:
            (image,) = torch.autograd.grad(
                first, w, v.to(first), allow_unused=True, retain_graph=retained
            )
        except RuntimeError as error:
            if "not implemented" not in str(error):
                raise
            told = str(error).splitlines()[0]
            raise NotImplementedError(f"no second derivative: {told}; {OTHERWISE}") from None
        found.append(torch.zeros_like(w) if image is None else image)
    return found


class Activations(TorchFunctionMode):
    """A block in which the bytes of what functions return are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.requires_grad and not found._is_view():
            self.bytes += found.numel() * found.element_size()
        return found


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """A block in which attention and weight norm are computed by their definitions.

    The fast kernels of attention have no second derivative, and that of weight norm is wrong.
    """
    with sdpa_kernel(SDPBackend.MATH), _WeightNorm():
        yield


class _WeightNorm(TorchFunctionMode):
    """w = g v / ||v||, whose second derivative torch's own function gives wrong."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _passes(tensor: Tensor, name: str) -> bool:
    """Whether a function of this name took part in computing a tensor."""
    seen: set[Any] = set()
    ahead: list[Any] = [tensor.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            if node.name() == name:
                return True
            seen.add(node)
            ahead += [following for following, _ in node.next_functions]
    return False
