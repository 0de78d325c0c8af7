"""A model in words: its layers, the shapes that pass through them, and its weights."""

from __future__ import annotations

from dataclasses import dataclass

from rsam_backends import Stream
from rsam_ref.nn.faults import watched
from rsam_ref.nn.module import Module
from rsam_ref.nn.outputs import outputs_of


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
    shapes = _shapes(model, shape)
    return [
        Line(name, type(module).__name__, _depth(name, modules), own[name], shapes.get(name))
        for name, module in modules.items()
    ]


def _depth(name: str, modules: dict[str, Module]) -> int:
    """How many modules a module lies in."""
    return sum(name.startswith(f"{other}.") for other in modules if other) + bool(name)


def _shapes(model: Module, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of what each module gives for one sample, by the module's name."""
    shapes: dict[str, tuple[int, ...]] = {}
    with watched(model, lambda name, module, out: shapes.update({name: out.shape[1:]})):
        outputs_of(model, Stream("outline", 0).normal((1, *shape), "float32"))
    return shapes
