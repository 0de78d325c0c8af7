"""The models: each a function of its sizes and a seed that returns a built `Module`.

A filter, the unit that R-SAM's noise is scaled by, is what lies at one place of a parameter's first
axis: one output of a Linear or Conv2d. Class tokens and position embeddings (1, tokens, width) have
one such place, so each is one filter as a whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rsam_ref.loading import did_you_mean, is_target
from rsam_ref.models.own import own_model
from rsam_ref.models.resnet import (
    cifar_resnet,
    imagenet_resnet,
    resnet18,
    resnet20,
    resnet32,
    resnet50,
    resnet56,
)
from rsam_ref.models.simple import cnn, flat_mlp, mlp
from rsam_ref.models.vit import vision_transformer, vit_base, vit_small, vit_tiny
from rsam_ref.models.wide import wide_resnet, wrn28_10
from rsam_ref.nn.module import Module

__all__ = [
    "MODELS",
    "cifar_resnet",
    "cnn",
    "flat_mlp",
    "imagenet_resnet",
    "make_model",
    "mlp",
    "own_model",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet50",
    "resnet56",
    "vision_transformer",
    "vit_base",
    "vit_small",
    "vit_tiny",
    "wide_resnet",
    "wrn28_10",
]

MODELS: dict[str, Callable[..., Module]] = {
    "mlp": flat_mlp,
    "cnn": cnn,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "wide_resnet": wide_resnet,
    "wrn28_10": wrn28_10,
    "vit_tiny": vit_tiny,
    "vit_small": vit_small,
    "vit_base": vit_base,
}
"""What `make_model` knows, by name."""


def make_model(
    name: str,
    *,
    shape: tuple[int, int, int],
    classes: int,
    seed: int = 0,
    dtype: Any = "float32",
    **options: Any,
) -> Module:
    """The model of this name for images of ``shape`` (C, H, W): (N, C, H, W) to (N, classes).

    ``options`` are those of the model's own function that are not given here already, such as
    ``hidden`` (mlp), ``width`` (cnn), ``stem`` (resnet18), ``depth`` and ``dropout`` (wide_resnet),
    ``patch`` and ``pool`` (vit_tiny). A name such as "FILE.py:NAME" is that of a function or class
    of one's own: see `own_model`.
    """
    if is_target(name):
        return own_model(name, shape=shape, classes=classes, seed=seed, dtype=dtype, **options)
    if name not in MODELS:
        raise ValueError(
            f"there is no model {name!r}{did_you_mean(name, MODELS)}; choose one of "
            f"{', '.join(MODELS)}, or give your own as FILE.py:NAME"
        )
    if len(shape) != 3:
        raise ValueError(f"{name}: shape is (channels, height, width), not {shape}")
    channels, height, width = shape
    takes = inspect.signature(MODELS[name]).parameters
    if height != width and takes.keys() & {"size", "image_size"}:
        raise ValueError(
            f"{name}: the images must be square, not {height} x {width}; crop or pad them, or "
            "choose mlp or a resnet"
        )
    given = {"shape": shape, "channels": channels, "size": height, "image_size": height}
    given |= {"classes": classes, "seed": seed, "dtype": dtype}
    known = [option for option in takes if option not in given]
    if wrong := [option for option in options if option not in known]:
        raise ValueError(f"{name} has no option {wrong[0]!r}; it has {', '.join(known) or 'none'}")
    for option, value in options.items():
        _check_kind(name, option, value, takes[option].annotation)
    arguments = {key: given[key] for key in given if key in takes}
    try:
        return MODELS[name](**arguments, **options)
    except TypeError as error:
        told = ", ".join(f"{option} = {value!r}" for option, value in options.items())
        raise ValueError(f"{name} cannot be made with {told}: {error}") from None


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _are_whole(value: Any) -> bool:
    return all(map(_is_whole, value if isinstance(value, (list, tuple)) else [value]))


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (_is_whole, "a whole number"),
    "float": (lambda value: _is_whole(value) or isinstance(value, float), "a number"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "str": (lambda value: isinstance(value, str), "a word"),
    "Sequence[int] | int": (_are_whole, "a whole number, or a list of them"),
}
"""What an option may be, by how its parameter is annotated."""


def _check_kind(model: str, option: str, value: Any, annotation: str) -> None:
    """Raise ValueError for an option of another kind than its parameter's."""
    fits, kind = KINDS[annotation]
    if not fits(value):
        raise ValueError(f"{model}: {option} must be {kind}, not {value!r}")
