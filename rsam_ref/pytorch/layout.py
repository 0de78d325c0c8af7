"""The one flat vector that a model's weights are for measures: which weight stands where.

The parameters follow one another as in ``model.parameters()``: shared ones once, frozen ones not
at all. Each lies there with its outputs along the first axis, so that every filter is a run, as
`rsam_ref.algorithms.noise` has it. Only transposed convolutions, (in, out / groups, ...), are
turned round for that. The row of an embedding is a filter, as is that of a linear layer whose
weights it shares. Of a complex parameter real and imaginary parts lie side by side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rsam_ref.pytorch.filters import transposed_weights


@dataclass(frozen=True)
class Place:
    """One parameter of the vector."""

    name: str
    like: Tensor
    """The parameter itself: its shape, type and device."""
    groups: int | None
    """Of a transposed convolution; None for all others."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that it has in the vector, outputs first."""
        shape = tuple(self.like.shape)
        if self.groups is not None:
            shape = (shape[1] * self.groups, shape[0] // self.groups, *shape[2:])
        if self.like.is_complex():
            return (*shape, 2) if len(shape) > 1 else (2 * math.prod(shape),)
        return shape

    @property
    def size(self) -> int:
        """How many numbers of the vector it is."""
        return math.prod(self.shape)

    def laid_out(self, tensor: Tensor) -> Tensor:
        """A tensor like the parameter, as it lies in the vector: (number,)."""
        if self.groups is not None:
            grouped = tensor.reshape(self.groups, -1, *tensor.shape[1:])  # (g, in / g, out / g, ..)
            tensor = grouped.transpose(1, 2).reshape(-1, *grouped.shape[1:2], *tensor.shape[2:])
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor.resolve_conj())
        return tensor.reshape(-1)

    def taken_up(self, part: Tensor) -> Tensor:
        """A part of the vector, in the parameter's own shape."""
        if self.like.is_complex():
            part = torch.view_as_complex(part.reshape(-1, 2))
        if self.groups is None:
            return part.reshape(self.like.shape)
        inputs, outputs, *size = self.like.shape
        grouped = part.reshape(self.groups, outputs, inputs // self.groups, *size)
        return grouped.transpose(1, 2).reshape(self.like.shape)


class Layout:
    """Where the trainable parameters of a model lie in one vector (P,).

    Raises ValueError where there are none.
    """

    def __init__(self, model: nn.Module) -> None:
        lazy = [name for name, p in model.named_parameters() if is_lazy(p)]
        if lazy:
            raise ValueError(
                f"{lazy[0]} of the model has no shape yet: run the model once on a batch before"
            )
        groups = transposed_weights(model.modules())
        self.places = [
            Place(name, p, groups.get(p))
            for name, p in model.named_parameters()
            if p.requires_grad and p.numel() > 0
        ]
        if not self.places:
            raise ValueError(
                f"{type(model).__name__} has no parameters that require a gradient, so its loss is "
                "a function of nothing: give a model with weights that are not frozen"
            )
        self.names = [place.name for place in self.places]
        self.shapes = [place.shape for place in self.places]
        self.size = sum(place.size for place in self.places)
        self.device = self.places[0].like.device

    @property
    def dtype(self) -> torch.dtype:
        """The widest real type among the parameters, float32 at least."""
        widest = torch.float32
        for place in self.places:
            real = place.like.dtype.to_real() if place.like.is_complex() else place.like.dtype
            widest = torch.promote_types(widest, real)
        return widest

    def vector(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Tensors by the parameters' names as a new vector (P,)."""
        parts = [place.laid_out(tensors[place.name].detach()) for place in self.places]
        return torch.cat([part.to(self.device, dtype) for part in parts])

    def tensors(
        self, vector: Tensor, *, own_types: bool = True, part: slice | None = None
    ) -> dict[str, Tensor]:
        """The vector's parts by the parameters' names, in their shapes and on their devices.

        They have the parameters' types, or without ``own_types`` the vector's. With ``part`` the
        vector is that part of a whole one. Raises ValueError where it cuts through a parameter.
        """
        among = self.places if part is None else self._within(part)
        found = {}
        for place, values in zip(among, torch.split(vector, [p.size for p in among])):
            tensor = place.taken_up(values.clone())  # a view of many could not be changed in place
            kind = place.like.dtype if own_types else tensor.dtype
            found[place.name] = tensor.to(place.like.device, kind)
        return found

    def _within(self, part: slice) -> list[Place]:
        """The parameters that lie in a part of the vector."""
        stops = list(itertools.accumulate(place.size for place in self.places))
        found = [p for p, stop in zip(self.places, stops) if part.start < stop <= part.stop]
        if sum(place.size for place in found) != part.stop - part.start:
            raise ValueError(
                f"the part {part.start} to {part.stop} of the weights cuts through a parameter"
            )
        return found
