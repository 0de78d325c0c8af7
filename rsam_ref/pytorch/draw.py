"""R-SAM's draw in PyTorch: z ~ N(0, I), by seed, and with it the noise D = sigma s z."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rsam_backends import Stream
from rsam_ref.algorithms.noise import check_sigma
from rsam_ref.pytorch.filters import filter_norms
from rsam_ref.pytorch.vectors import as_real, is_sharded, wide

Draw = Callable[[int, Sequence[Tensor]], Sequence[Tensor]]
"""From the step, counted from 0, and the weights to z: a tensor like each of the weights."""


class Generators:
    """Normal draws by generators of its own, one for each device, made of one seed.

    torch's global generators, which dropout and loaders use, are neither asked nor moved.
    """

    def __init__(self, seed: int) -> None:
        if seed >= 2**64:
            raise ValueError(f"seed is below 2**64 with draw='torch', not {seed}")
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

    The weights are taken in their order, as one vector of the first one's type, in which complex
    ones have their real and imaginary parts side by side.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, step: int, weights: Sequence[Tensor]) -> list[Tensor]:
        """z for each of the weights, from ``Stream("noise", seed, step)``."""
        kind = "float64" if as_real(weights[0]).dtype == torch.float64 else "float32"
        sizes = [w.numel() * (2 if w.is_complex() else 1) for w in weights]
        drawn = torch.from_numpy(Stream("noise", self.seed, step).normal(sum(sizes), kind))
        parts = zip(torch.split(drawn, sizes), weights)
        whole = [
            torch.view_as_complex(z.reshape(*w.shape, 2)) if w.is_complex() else z.reshape(w.shape)
            for z, w in parts
        ]
        return [sharded_as(w, z.to(w.device, w.dtype)) for z, w in zip(whole, weights)]

    def state_dict(self) -> dict[str, Any]:
        """The seed: with the step it is all that a draw depends on."""
        return {"seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with that seed."""
        _check_state(state, ("seed",), "reference")
        self.seed = int(state["seed"])


def whole_seed(seed: Any) -> int:
    """The seed as a Python number; TypeError for what is no whole number, ValueError below 0."""
    try:
        if isinstance(seed, bool):
            raise TypeError
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed is a whole number, not {seed!r}") from None
    if number < 0:
        raise ValueError(f"seed is a whole number >= 0, not {number}")
    return number


def draw_of(draw: str | Draw, seed: int) -> Draw:
    """The draw of that name, or the one that is given.

    Raises TypeError or ValueError for a seed that can be none.
    """
    seed = whole_seed(seed)
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
    for t, w in zip(z, weights):
        if t.is_complex() != w.is_complex():
            raise ValueError(
                f"the draw gave {t.dtype} for a weight of {w.dtype}: z is complex where the weight "
                "is, and only there"
            )
    return z


def noise(w: Tensor, z: Tensor, *, sigma: float, output_axis: int, groups: int) -> Tensor:
    """D = sigma s z of one parameter, of its type."""
    check_sigma(sigma)
    return (sigma * filter_norms(w, output_axis, groups) * wide(z)).to(w.dtype)
