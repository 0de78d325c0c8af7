"""Vectors that lie in many tensors: what the equations need of them, without a copy into one.

A vector is a list of tensors, one for each parameter. On a GPU one kernel does all of a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

Vector = Sequence[Tensor]

LOW = (torch.float16, torch.bfloat16)
"""Types whose products and sums are taken in float32: rho / ||g|| alone is often no float16."""


def wide(tensor: Tensor) -> Tensor:
    """In float32, where its own type is of low precision."""
    return tensor.float() if tensor.dtype in LOW else tensor


def as_real(tensor: Tensor) -> Tensor:
    """Complex numbers as two real ones each, (..., 2); real ones as they are."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def norm(vector: Vector) -> Tensor:
    """The Euclidean length of a vector over all its tensors: a real number, never of low precision.

    Of complex numbers by ``|.|^2``; of tensors that are sharded (DTensor) over all shards.
    """
    lengths = [
        torch.linalg.vector_norm(t, dtype=torch.float32 if t.dtype in LOW else None) for t in vector
    ]
    widest = torch.float64 if any(n.dtype == torch.float64 for n in lengths) else torch.float32
    home = lengths[0].device
    length = torch.linalg.vector_norm(torch.stack([n.to(home, widest) for n in lengths]))
    return length.full_tensor() if is_sharded(length) else length


def add_(weights: Vector, vector: Vector, factor: Tensor) -> None:
    """``weights += factor * vector`` in place, where ``factor`` is one number.

    Weights of low precision are rounded once, from the sum.
    """
    if _by_lists(weights):
        steps = torch._foreach_mul([wide(v) for v in vector], factor.to(weights[0].device))
        torch._foreach_add_(list(weights), steps)
        return
    for w, v in zip(weights, vector):
        w.addcmul_(wide(v), factor.to(w.device))


def clip_(parameters: Iterable[Tensor], longest: float) -> Tensor:
    """Scale gradients in place to this length, if theirs is above it; returns theirs.

    Of a sparse gradient, whose rows may be listed more than once, the rows are added up first.
    As `torch.nn.utils.clip_grad_norm_`, but for float16, whose norm there is often infinite.
    """
    gradients = []
    for p in parameters:
        if p.grad is not None and p.grad.layout == torch.sparse_coo:
            p.grad = p.grad.coalesce()
            gradients.append(p.grad._values())
        elif p.grad is not None:
            gradients.append(p.grad)
    length = norm(gradients)
    scale_(gradients, (longest / (length + 1e-6)).clamp(max=1.0))
    return length


def scale_(vector: Vector, factor: Tensor) -> None:
    """``vector *= factor`` in place, where ``factor`` is one number."""
    if _by_lists(vector) and not any(t.dtype in LOW for t in vector):
        torch._foreach_mul_(list(vector), factor.to(vector[0].device))
        return
    for t in vector:
        if t.dtype in LOW:
            t.copy_(wide(t) * factor.to(t.device))
        else:
            t.mul_(factor.to(t.device))


def copy_(to: Vector, source: Vector) -> None:
    """``to = source`` in place, bit for bit."""
    if _by_lists(to):
        torch._foreach_copy_(list(to), list(source))
    else:
        for a, b in zip(to, source):
            a.copy_(b)


def _by_lists(vector: Vector) -> bool:
    """Whether the functions for lists save time: on one GPU. Those for shards are not all there."""
    devices = {t.device for t in vector}
    if len(devices) != 1 or any(map(is_sharded, vector)):
        return False
    return devices.pop().type != "cpu"


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, of which each process holds a part."""
    return hasattr(tensor, "full_tensor")
