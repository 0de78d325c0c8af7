"""The filters of R-SAM's noise in PyTorch: what makes one output, and its norm s.

As in `rsam_ref.algorithms.noise`. Most weights have their outputs along axis 0; those of
transposed convolutions along axis 1, which only the module tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rsam_ref.algorithms.noise import TINY
from rsam_ref.pytorch.vectors import LOW

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def transposed_weights(modules: Iterable[nn.Module]) -> dict[Tensor, int]:
    """The weights (in, out / groups, ...) of transposed convolutions, and their groups.

    Of a weight that is computed (weight norm, spectral norm, pruning) those that it is computed
    from, where they have its axes, each of its length or of 1. The weight itself is not asked for:
    it is no parameter, and to ask can move a state.
    """
    found: dict[Tensor, int] = {}
    for m in modules:
        if isinstance(m, TRANSPOSED):
            shape = (m.in_channels, m.out_channels // m.groups, *m.kernel_size)
            for p in _own_parameters(m):
                if p.ndim == len(shape) and all(n in (1, k) for n, k in zip(p.shape, shape)):
                    found[p] = m.groups if p.shape[0] == m.in_channels else 1
    return found


def _own_parameters(module: nn.Module) -> Iterator[Tensor]:
    """A module's parameters, and those of its parametrizations, that have a shape."""
    yield from (p for p in module._parameters.values() if p is not None and not is_lazy(p))
    computed = module._modules.get("parametrizations")
    if computed is not None:
        yield from computed.parameters()


def filter_norms(w: Tensor, output_axis: int = 0, groups: int = 1) -> Tensor:
    """The norm of every filter of a parameter, in a shape that multiplies it.

    Parameters
    ----------
    w:
        a parameter; with less than two axes it is one filter, whose norm is never quite 0.
    output_axis:
        the axis along which the filters are counted; counted from the last where it is below 0.
    groups:
        for transposed convolutions (in, out / groups, ...): outputs of different groups
        stand in the same place of axis 1, and are different filters.

    >>> w = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    >>> filter_norms(w).tolist(), filter_norms(w, output_axis=1).squeeze().tolist()[0]
    ([[5.0], [2.0]], 3.0)
    """
    kind = torch.float32 if w.dtype in LOW else None
    if w.ndim < 2:
        return torch.linalg.vector_norm(w, dtype=kind) + TINY
    grouped = w.reshape(groups, -1, *w.shape[1:]) if groups > 1 else w[None]
    over = [axis for axis in range(1, grouped.ndim) if axis != output_axis % w.ndim + 1]
    norms = torch.linalg.vector_norm(grouped, dim=over, keepdim=True, dtype=kind)
    return norms.expand_as(grouped).reshape(w.shape) if groups > 1 else norms[0]


def check_axis(output_axis: int, weights: Iterable[Tensor]) -> None:
    """Raise ValueError where a weight has no such axis; vectors and numbers are one filter."""
    for w in weights if output_axis else ():  # axis 0 they all have
        if w.ndim >= 2 and not -w.ndim <= output_axis < w.ndim:
            raise ValueError(
                f"output_axis is {output_axis}, which a parameter of the shape {tuple(w.shape)} "
                "does not have; give it a group with an output_axis of its own"
            )
