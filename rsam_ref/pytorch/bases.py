"""The base of SAM and R-SAM, the optimizer that moves w by g: how it is made, what can be none."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from rsam_backends.base import kind_of

Base = torch.optim.Optimizer


def made(
    make: Callable[..., Base] | None,
    groups: Iterable[dict[str, Any]],
    options: Mapping[str, Any],
    who: str,
) -> Base:
    """The base optimizer, of its class (or a function of the groups) and its options."""
    if isinstance(make, torch.optim.Optimizer):
        raise TypeError(
            "a base optimizer that is already built knows its parameters: give it alone, "
            "in place of the parameters, or give its class"
        )
    if isinstance(make, torch.nn.Module):
        raise TypeError(f"the model comes first, then the base's class: {who}(model, SGD, ...)")
    if not callable(make):
        raise TypeError(
            f"base_optimizer is the class of an optimizer, such as torch.optim.SGD, not {make!r}"
        )
    _check_options(make, options, who)
    base = make(groups, **options)
    if not isinstance(base, torch.optim.Optimizer):
        raise TypeError(f"base_optimizer made {kind_of(base)}, no torch optimizer")
    return base


def _check_options(make: Callable[..., Base], options: Mapping[str, Any], who: str) -> None:
    """Raise TypeError for an option that neither has, in words that name both."""
    try:
        known = inspect.signature(make).parameters
    except (TypeError, ValueError):  # not every callable tells
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        return
    for name in options:
        if name not in known:
            base = getattr(make, "__name__", "the base")
            raise TypeError(f"neither {who} nor {base} has an option {name!r}")


def check_base(base: Base, settings: Iterable[str], who: str) -> None:
    """Raise TypeError for an optimizer that can be no base, ValueError for such options."""
    if isinstance(base, torch.optim.LBFGS):
        raise TypeError(
            "LBFGS evaluates the loss itself, so it can be no base: it would be asked for the "
            "gradient elsewhere than at w + eps"
        )
    for name in settings:
        if name in base.defaults:
            raise TypeError(
                f"{type(base).__name__} has a {name} of its own, which in a group would be one "
                f"with that of {who}: it can be no base"
            )
    if any(group.get("differentiable") for group in base.param_groups):
        raise ValueError(
            f"{who} takes no derivative of its step: leave differentiable=True of the base out"
        )
