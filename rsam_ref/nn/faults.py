"""Where a model's values first stop being finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rsam_backends import xp
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
    if not xp.isfinite(x._data if isinstance(x, Tensor) else xp.asarray(x)).all():
        return INPUTS_NOT_FINITE
    for name, p in zip(weights.names, weights.parameters):
        if not xp.isfinite(p._data).all():
            return f"the weights of {name} are not finite (the step before had diverged)"

    culprit: list[str] = []
    names = {id(module): name for name, module in model.modules().items()}

    def watch(module: Module) -> Callable[..., Tensor]:
        def forward(*inputs: Any) -> Tensor:
            out = type(module).forward(module, *inputs)
            if not culprit and not xp.isfinite(out._data).all():
                culprit.append(f"{names[id(module)] or 'model'} ({type(module).__name__})")
            return out

        return forward

    modules = list(model.modules().values())
    before = [vars(module).get("forward") for module in modules]
    try:
        for module in modules:
            module.forward = watch(module)  # type: ignore[method-assign]
        with no_grad(), frozen_statistics():
            model(x)
    finally:
        for module, forward in zip(modules, before):
            del module.forward
            if forward is not None:
                module.forward = forward  # type: ignore[method-assign]
    if culprit:
        return f"the output of {culprit[0]} is not finite"
    return None
