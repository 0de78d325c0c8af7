"""R-SAM's draw in PyTorch: D = sigma s z, with s the norm of the filter that a weight belongs to.

A filter is what makes one output, as in `rsam_ref.algorithms.noise`. Most weights have their
outputs along axis 0; those of transposed convolutions along axis 1, which only the module tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsam_backends import Stream
from rsam_ref.algorithms.noise import TINY, check_sigma
from rsam_ref.pytorch.vectors import LOW, is_sharded

Draw = Callable[[int, Sequence[Tensor]], Sequence[Tensor]]
"""From the step, counted from 0, and the weights to z: a tensor like each of the weights."""

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def transposed_weights(modules: Iterable[nn.Module]) -> dict[Tensor, int]:
    """The weights (in, out / groups, ...) of transposed convolutions, and their groups.

    Those that are computed from others (weight norm, spectral norm) are not asked for: they are no
    parameters, and to ask can move a state.
    """
    found: dict[Tensor, int] = {}
    for m in modules:
        if isinstance(m, TRANSPOSED):
            weight = m._parameters.get("weight")
            if weight is not None:
                found[weight] = m.groups
    return found


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


class Generators:
    """Normal draws by generators of its own, one for each device, made of one seed.

    torch's global generators, which dropout and loaders use, are neither asked nor moved.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._own: dict[str, torch.Generator] = {}

    def __call__(self, step: int, weights: Sequence[Tensor]) -> list[Tensor]:
        """z ~ N(0, I) for each of the weights; of a complex weight both parts."""
        return [self._normal(w) for w in weights]

    def _normal(self, w: Tensor) -> Tensor:
        device = str(w.device)
        if device not in self._own:
            self._own[device] = torch.Generator(device).manual_seed(self.seed)
        return normal_like(w, self._own[device])

    def state_dict(self) -> dict[str, Any]:
        """The seed, and where the generators stand, by device."""
        return {"seed": self.seed, "devices": {d: g.get_state() for d, g in self._own.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        _check_state(state, ("seed", "devices"), "torch")
        own = {device: torch.Generator(device) for device in state["devices"]}
        for device, generator in own.items():
            generator.set_state(state["devices"][device].cpu())
        self.seed, self._own = int(state["seed"]), own

    def __getstate__(self) -> dict[str, Any]:
        return self.state_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.load_state_dict(state)


def _check_state(state: Any, names: tuple[str, ...], draw: str) -> None:
    if not isinstance(state, dict) or set(state) != set(names):
        raise ValueError(
            f"the state is not of draw={draw!r}: make the optimizer with the draw that it was "
            "saved with"
        )


def normal_like(w: Tensor, generator: torch.Generator) -> Tensor:
    """N(0, 1) for every real number in w."""
    if w.is_complex():
        return torch.view_as_complex(normal_like(torch.view_as_real(w), generator))
    whole = torch.randn(w.shape, dtype=w.dtype, device=w.device, generator=generator)
    return sharded_as(w, whole)


def sharded_as(w: Any, whole: Tensor) -> Tensor:
    """A tensor that every process has in full, as shards where w is: each keeps its own."""
    if not is_sharded(w):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, w.device_mesh, w.placements, src_data_rank=None)


class ReferenceDraw:
    """The draws of `rsam_ref.RSAM` with this seed: the same z for the same step and weights.

    The weights are taken in their order, as one vector of the first one's type.
    """

    def __init__(self, seed: int) -> None:
        Stream("noise", seed)  # a seed that cannot be one is refused here
        self.seed = seed

    def __call__(self, step: int, weights: Sequence[Tensor]) -> list[Tensor]:
        """z for each of the weights, from ``Stream("noise", seed, step)``."""
        kind = "float64" if weights[0].dtype == torch.float64 else "float32"
        sizes = [w.numel() for w in weights]
        drawn = torch.from_numpy(Stream("noise", self.seed, step).normal(sum(sizes), kind))
        whole = [z.reshape(w.shape) for z, w in zip(torch.split(drawn, sizes), weights)]
        return [sharded_as(w, z.to(w.device, w.dtype)) for z, w in zip(whole, weights)]

    def state_dict(self) -> dict[str, Any]:
        """The seed: with the step it is all that a draw depends on."""
        return {"seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with that seed."""
        _check_state(state, ("seed",), "reference")
        self.seed = int(state["seed"])


def draw_of(draw: str | Draw, seed: int) -> Draw:
    """The draw of that name, or the one that is given."""
    if callable(draw):
        return draw
    kinds: dict[str, Callable[[int], Draw]] = {"torch": Generators, "reference": ReferenceDraw}
    if draw not in kinds:
        raise ValueError(
            f"draw is 'torch', 'reference', or a function of (step, weights), not {draw!r}"
        )
    return kinds[draw](seed)


def drawn(draw: Draw, step: int, weights: Sequence[Tensor]) -> list[Tensor]:
    """z, one for each of the weights; a ValueError where a draw of the user's gives another."""
    z = list(draw(step, weights))
    shapes, expected = ([tuple(t.shape) for t in tensors] for tensors in (z, weights))
    if shapes != expected:
        raise ValueError(f"the draw gave tensors of the shapes {shapes}, not {expected}")
    return z


def noise(w: Tensor, z: Tensor, *, sigma: float, output_axis: int, groups: int) -> Tensor:
    """D = sigma s z of one parameter, of its type."""
    check_sigma(sigma)
    return (sigma * filter_norms(w, output_axis, groups) * z).to(w.dtype)
