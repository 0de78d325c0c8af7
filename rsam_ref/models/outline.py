"""A model in words: its layers, the shapes that pass through them, and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rsam_backends import Stream, to_device
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.nn.module import Module


@dataclass(frozen=True)
class Line:
    """A layer of a model.

    ``weights`` are those that are its own, not those of layers within it; ``shape`` is that of its
    output for one sample, None for one that did not run.
    """

    name: str
    kind: str
    depth: int
    weights: int
    shape: tuple[int, ...] | None


def outline(model: Module, shape: tuple[int, ...]) -> list[Line]:
    """The layers of a model, depth first, run by one sample of ``shape``, such as (C, H, W)."""
    modules = model.modules()
    own = dict.fromkeys(modules, 0)
    for name, parameter in model.parameters().items():
        own[name.rpartition(".")[0]] += parameter._data.size
    shapes = _shapes(model, modules, shape)
    return [
        Line(name, type(module).__name__, _depth(name, modules), own[name], shapes.get(id(module)))
        for name, module in modules.items()
    ]


def _depth(name: str, modules: dict[str, Module]) -> int:
    """How many modules a module lies in."""
    return sum(name.startswith(f"{other}.") for other in modules if other) + bool(name)


def _shapes(
    model: Module, modules: dict[str, Module], shape: tuple[int, ...]
) -> dict[int, tuple[int, ...]]:
    """The shape of what each module gives for one sample, by the module's id."""
    shapes: dict[int, tuple[int, ...]] = {}
    for module in modules.values():
        _watch(module, shapes)
    try:
        with model.in_mode(training=False), no_grad():
            dtype = model.weights.flat.dtype
            x = to_device(Stream("outline", 0).normal((1, *shape), "float32"), dtype)
            model(Tensor.over(x))
    finally:
        for module in modules.values():
            del module.forward
    return shapes


def _watch(module: Module, shapes: dict[int, tuple[int, ...]]) -> None:
    """Let a module tell the shape of what it gives, until its own ``forward`` is deleted."""
    forward = module.forward

    def watched(*inputs: Any) -> Tensor:
        out = forward(*inputs)
        shapes[id(module)] = out.shape[1:]
        return out

    module.forward = watched  # type: ignore[method-assign]
