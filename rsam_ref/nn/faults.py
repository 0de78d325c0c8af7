"""Where a model's values first stop being finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rsam_backends import looking, quiet, xp
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.nn.module import Module
from rsam_ref.nn.passes import frozen_statistics

INPUTS_NOT_FINITE = "the inputs hold values that are not finite"


def first_not_finite(model: Module, x: Any) -> str | None:
    """Where a model's values first stop being finite: a sentence that names the layer, or None.

    Reads values back from the device after every layer, so it is for finding a fault, not for use
    in a step.
    """
    weights = model.weights
    if not xp.all(xp.isfinite(x._data if isinstance(x, Tensor) else xp.asarray(x))):
        return INPUTS_NOT_FINITE
    for name, p in zip(weights.names, weights.parameters):
        if not xp.all(xp.isfinite(p._data)):
            return f"the weights of {name} are not finite (the step before had diverged)"

    faulty: list[str] = []

    def look(name: str, module: Module, out: Tensor) -> None:
        if not xp.all(xp.isfinite(out._data)):
            faulty.append(f"{name or 'model'} ({type(module).__name__})")

    with watched(model, look), no_grad(), frozen_statistics():
        model(x)
    return f"the output of {faulty[0]} is not finite" if faulty else None


def check_targets(model: Module, x: Any, y: Any, loss: Callable[..., Tensor]) -> None:
    """Raise what the loss says of targets that do not fit, such as labels that are no class.

    On a device the loss does not look at them, since it would have to wait, and is nan.
    """
    with looking(), quiet(), no_grad(), frozen_statistics():
        loss(model(x), y)


@contextmanager
def watched(model: Module, look: Callable[[str, Module, Tensor], None]) -> Iterator[None]:
    """In this block ``look(name, module, output)`` is called after each module's forward.

    For that each module has a ``forward`` of its own, which hides that of its class, or one that it
    had already (see `recompute`). Parts come before the whole.
    """

    def watching(name: str, module: Module) -> Callable[..., Tensor]:
        def forward(*inputs: Any) -> Tensor:
            out = type(module).forward(module, *inputs)
            look(name, module, out)
            return out

        return forward

    modules = model.modules()
    own = {name: vars(module).get("forward") for name, module in modules.items()}
    try:
        for name, module in modules.items():
            vars(module)["forward"] = watching(name, module)
        yield
    finally:
        for name, module in modules.items():
            vars(module).pop("forward", None)
            if own[name] is not None:
                vars(module)["forward"] = own[name]
