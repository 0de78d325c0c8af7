"""A model of one's own, from "FILE.py:NAME": a class, or a function of sizes that returns one.

def net(shape, classes, width=16):
    return Sequential(Flatten(), Linear(math.prod(shape), width), ReLU(), Linear(width, classes))
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from rsam_backends import Stream
from rsam_backends.base import kind_of
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.loading import line_of, load
from rsam_ref.nn.module import Module
from rsam_ref.nn.outputs import outputs_of


def own_model(
    target: str,
    *,
    shape: tuple[int, int, int],
    classes: int,
    seed: int = 0,
    dtype: Any = "float32",
    **options: Any,
) -> Module:
    """The model that a function or a class of one's own makes for images of ``shape`` (C, H, W).

    It is given those that it takes by name of ``shape``, ``inputs`` (C H W, a number),
    ``channels``, ``size`` or ``image_size`` of square images, ``classes``, ``seed`` and ``dtype``,
    and the ``options``. A model that it does not build itself is built from ``seed`` in ``dtype``.

    Raises ValueError, with one line, for what makes no such model.
    """
    make = load(target)
    if isinstance(make, Module):
        raise ValueError(f"{target} is a model; give a function or a class that makes one")
    if not callable(make):
        raise ValueError(f"{target} is {kind_of(make)}, not a function that makes a model")
    model = _made(target, make, shape, classes, seed, dtype, options)
    if not isinstance(model, Module):
        raise ValueError(
            f"{target} gives {kind_of(model)}, where a model, a rsam_ref.nn.Module, should be"
        )
    if not model._built:
        try:
            model.build(seed, dtype)
        except TypeError as error:  # parameters where they would never be trained
            raise ValueError(f"{target}: {error}") from error
    elif str(model.weights.flat.dtype) != str(dtype):
        raise ValueError(
            f"{target} builds its model in {model.weights.flat.dtype}, and {dtype} is asked for: "
            "let it take dtype, or return the model unbuilt"
        )
    _check_scores(target, model, shape, classes)
    return model


def _made(
    target: str,
    make: Callable[..., Any],
    shape: tuple[int, int, int],
    classes: int,
    seed: int,
    dtype: Any,
    options: dict[str, Any],
) -> Any:
    """What it makes of those sizes that it takes by name, and of its options."""
    takes = inspect.signature(make).parameters
    given = {"shape": shape, "channels": shape[0], "classes": classes, "seed": seed, "dtype": dtype}
    given |= {"inputs": math.prod(shape)}
    if {"size", "image_size"} & takes.keys():
        if shape[1] != shape[2]:
            raise ValueError(
                f"{target} takes one image size, and images are {shape[1]} x {shape[2]}"
            )
        given |= {"size": shape[1], "image_size": shape[1]}
    any_name = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    if wrong := [name for name in options if name not in takes and not any_name]:
        there_are = ", ".join(name for name in takes if name not in given) or "none"
        raise ValueError(f"{target} has no option {wrong[0]!r}; it has {there_are}")
    arguments = {name: given[name] for name in given if name in takes} | options
    missing = [
        name
        for name, p in takes.items()
        if p.default is p.empty
        and name not in arguments
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if missing:
        raise ValueError(
            f"{target} needs {missing[0]!r}: it is given {', '.join(given)} where it takes them; "
            f"give it a default, or --model-option {missing[0]}=..."
        )
    try:
        return make(**arguments)
    except Exception as error:  # of code that is not ours
        told = f"{type(error).__name__}: {error}{line_of(error, target)}"
        raise ValueError(f"{target} raised {told}") from error


def _check_scores(target: str, model: Module, shape: tuple[int, int, int], classes: int) -> None:
    """Raise ValueError unless two images give two rows of scores."""
    x = Stream("own model", 0).normal((2, *shape), "float32")
    try:
        out = outputs_of(model, x)
    except Exception as error:  # of code that is not ours
        told = f"{type(error).__name__}: {error}{line_of(error, target)}"
        raise ValueError(f"{target} does not take images of shape {x.shape}: {told}") from error
    if not isinstance(out, Tensor) or out.shape != (2, classes):
        got = f"shape {out.shape}" if isinstance(out, Tensor) else kind_of(out)
        raise ValueError(
            f"{target} gives {got} for 2 images, where a tensor of scores (2, {classes}), one for "
            "each class, should be"
        )
