"""Vectors that lie in many tensors: what the equations need of them, without a copy into one.

A vector is a list of tensors, one for each parameter. Where a library function for lists is faster
(on a GPU one kernel for all of them), it is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Vector = Sequence[Tensor]

LOW = (torch.float16, torch.bfloat16)
"""Types whose squares are summed in float32."""


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
    return length.full_tensor() if hasattr(length, "full_tensor") else length


def add_(weights: Vector, vector: Vector, factor: Tensor) -> None:
    """``weights += factor * vector`` in place, where ``factor`` is one number."""
    factors = {w.device: factor.to(w.device) for w in weights}
    if len(factors) == 1 and weights[0].device.type != "cpu":
        steps = torch._foreach_mul(list(vector), next(iter(factors.values())))
        torch._foreach_add_(list(weights), steps)
        return
    for w, v in zip(weights, vector):
        w.addcmul_(v, factors[w.device])


def copy_(to: Vector, source: Vector) -> None:
    """``to = source`` in place, bit for bit."""
    torch._foreach_copy_(list(to), list(source))
