"""Finding the torch optimizer that an implementation steps with, and a shadow of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from rsam_ref.conformance.observe.base import BaseSeen, Settings

NEVER = (torch.optim.LBFGS,)
"""Optimizers that evaluate the loss themselves."""

DEPTH = 3
"""How deep in the attributes of an implementation its base is looked for."""


class TorchBase:
    """A torch optimizer found in an implementation, copied before the first step.

    ``parameters`` are the network's, in the order of the flat vector; ``step`` is the method that
    makes the base step, where it is not the optimizer's own.
    """

    def __init__(self, optimizer: Any, parameters: list[Any], step: Any = None) -> None:
        self.optimizer = optimizer
        self.parameters = parameters
        self.name = _class_of(optimizer, step)
        self._step = step
        self._start = _copied(optimizer, parameters)
        self._at_its_step: Settings | None = None
        optimizer.register_step_pre_hook(self._remember)

    def _remember(self, optimizer: Any, *_: Any) -> None:
        self._at_its_step = settings_of(optimizer)

    def begin(self) -> Settings:
        """A step begins: the settings as they are now."""
        self._at_its_step = None
        return settings_of(self.optimizer)

    def settings(self, at_first: Settings) -> Settings:
        """The settings when the base stepped; where that was not seen, those ``at_first``."""
        return self._at_its_step if self._at_its_step is not None else at_first

    def shadow(self) -> TorchShadow:
        optimizer, parameters = self._start
        fresh = _copied(optimizer, parameters)
        return TorchShadow(*fresh, self._step)


class TorchShadow:
    """A copy of an optimizer on parameters of its own."""

    def __init__(self, optimizer: Any, parameters: list[Any], step: Any) -> None:
        self.optimizer, self.parameters = optimizer, parameters
        self._step = step

    def step(self, w: np.ndarray, g: np.ndarray, settings: Settings) -> np.ndarray:
        for group, values in zip(self.optimizer.param_groups, settings):
            group.update({k: v for k, v in values.items() if k in group})
        start = 0
        with torch.no_grad():
            for p in self.parameters:
                part = slice(start, start + p.numel())
                p.copy_(torch.from_numpy(w[part].copy()).reshape(p.shape))
                p.grad = torch.from_numpy(g[part].copy()).reshape(p.shape).to(p.dtype)
                start += p.numel()
            if self._step is None:
                self.optimizer.step()
            else:
                self._step(self.optimizer)
        parts = [p.detach().to(torch.float64).reshape(-1).numpy() for p in self.parameters]
        return np.concatenate(parts).copy()


def find_base(optimizer: Any, parameters: list[Any]) -> TorchBase | None:
    """The torch optimizer that makes the base step of ``optimizer``; None where none is seen.

    It lies in an attribute, or is what the implementation's own class is derived from.
    """
    own = {id(p) for p in parameters}
    for found in _held(optimizer):
        if not isinstance(found, NEVER) and _ids(found) & own:
            return _made(found, parameters)
    for parent in type(optimizer).__mro__[1:]:
        of_torch = (parent.__module__ or "").startswith("torch.optim.")
        if of_torch and parent is not torch.optim.Optimizer:
            step = getattr(parent, "step", None)
            return None if parent in NEVER else _made(optimizer, parameters, step)
    return None


def given_base(optimizer: Any, parameters: list[Any]) -> TorchBase | None:
    """The base for an optimizer that the check itself gave to a training step."""
    return _made(optimizer, parameters)


def seen(base: TorchBase | None, at_first: Settings, hints: dict[str, Any]) -> BaseSeen:
    """What a step knows of its base."""
    return BaseSeen(base, base.settings(at_first) if base else [], hints)


def hints_of(*owners: Any) -> dict[str, Any]:
    """The numbers (and pairs of numbers) that these objects hold by name."""
    found: dict[str, Any] = {}
    for owner in owners:
        values = owner if isinstance(owner, dict) else getattr(owner, "__dict__", {})
        for name, value in list(values.items()):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            pair = isinstance(value, tuple | list) and 0 < len(value) < 4
            if number or (pair and all(isinstance(v, int | float) for v in value)):
                found.setdefault(str(name), value)
    return found


def settings_of(optimizer: Any) -> Settings:
    """The settings of its groups, without the parameters."""
    plain = (bool, int, float, str, tuple, type(None))
    return [
        {k: v for k, v in group.items() if k != "params" and isinstance(v, plain)}
        for group in optimizer.param_groups
    ]


def _held(owner: Any, depth: int = DEPTH, known: set[int] | None = None) -> Iterator[Any]:
    """Torch optimizers in the attributes of an object, the nearest first."""
    known = {id(owner)} if known is None else known
    inner = []
    for value in list(getattr(owner, "__dict__", {}).values()):
        if id(value) in known:
            continue
        if isinstance(value, torch.optim.Optimizer):
            known.add(id(value))
            yield value
            inner.append(value)
        elif hasattr(value, "__dict__") and not isinstance(
            value, torch.nn.Module | torch.Tensor | type
        ):
            known.add(id(value))
            inner.append(value)
    if depth > 1:
        for value in inner:
            yield from _held(value, depth - 1, known)


def _ids(optimizer: Any) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def _made(optimizer: Any, parameters: list[Any], step: Any = None) -> TorchBase | None:
    try:
        return TorchBase(optimizer, parameters, step)
    except Exception:  # what cannot be copied cannot be replayed
        return None


def _class_of(optimizer: Any, step: Any) -> str:
    if step is None:
        return type(optimizer).__name__
    return str(step.__qualname__.split(".")[0])


def _copied(optimizer: Any, parameters: list[Any]) -> tuple[Any, list[Any]]:
    """A copy of an optimizer, on copies of the parameters."""
    copies = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    memo: dict[int, Any] = {id(p): q for p, q in zip(parameters, copies)}
    kind: Any = type(optimizer)
    made = kind.__new__(kind)
    kept = {k: v for k, v in vars(optimizer).items() if not k.startswith("_optimizer_")}
    kept.pop("_zero_grad_profile_name", None)
    kept.pop("step", None)  # what replaces it on the object works on that one, or makes SAM of it
    made.__dict__.update(copy.deepcopy(kept, memo))
    torch.optim.Optimizer.__setstate__(made, {})
    for group in made.param_groups:
        group["params"] = [q for q in group["params"] if any(q is own for own in copies)]
    return made, copies
