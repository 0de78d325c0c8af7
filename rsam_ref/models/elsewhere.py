"""The same models in PyTorch: the lines that make one whose state_dict has the same names.

torchvision's ResNets, timm's vision transformers, and PyTorch's own layers where these do. The
other models have a public counterpart as well, which no package installs: it is named.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from rsam_ref.loading import is_target, name_in

TIMM = {"vit_tiny": (192, 3), "vit_small": (384, 6), "vit_base": (768, 12)}
"""Widths and heads."""


def in_pytorch(
    name: str, *, shape: tuple[int, int, int], classes: int, options: dict[str, Any]
) -> list[str]:
    """Lines of Python after which ``model`` is this one in PyTorch.

    ``name``, ``shape`` (C, H, W), ``classes`` and ``options`` are those of `make_model`.
    """
    if name == "mlp":
        return _mlp(shape, classes, **options)
    if name == "cnn":
        return _cnn(shape, classes, **options)
    if name in ("resnet18", "resnet50") and options.get("width", 64) == 64:
        return _torchvision(name, shape[0], classes, options.get("stem", "imagenet"))
    if is_target(name):
        return [f"model = ...  # your own {name_in(name)}, written in PyTorch with the same names"]
    if name in TIMM:
        return _timm(name, shape, classes, **options)
    return _by_file(name, classes, options)


def _mlp(shape: tuple[int, int, int], classes: int, hidden: Any = (256, 256)) -> list[str]:
    sizes = [math.prod(shape), *hidden, classes]
    linear = [f"nn.Linear({a}, {b})" for a, b in itertools.pairwise(sizes)]
    layers = ", nn.ReLU(), ".join(linear)
    return ["from torch import nn", f"model = nn.Sequential(nn.Flatten(), {layers})"]


def _cnn(shape: tuple[int, int, int], classes: int, width: int = 32) -> list[str]:
    channels, size, _ = shape
    return [
        "from torch import nn",
        "model = nn.Sequential(",
        f"    nn.Conv2d({channels}, {width}, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),",
        f"    nn.Conv2d({width}, {2 * width}, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),",
        f"    nn.Flatten(), nn.Linear({2 * width * (size // 4) ** 2}, {classes}),",
        ")",
    ]


def _torchvision(name: str, channels: int, classes: int, stem: str) -> list[str]:
    lines = ["import torchvision", f"model = torchvision.models.{name}(num_classes={classes})"]
    small = stem == "cifar"
    if small or channels != 3:
        window = "3, padding=1" if small else "7, stride=2, padding=3"
        lines[0] += "\nfrom torch import nn"
        lines.append(f"model.conv1 = nn.Conv2d({channels}, 64, {window}, bias=False)")
    if small:
        lines.append("model.maxpool = nn.Identity()")
    return "\n".join(lines).splitlines()


def _timm(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    depth: int = 12,
    patch: int = 16,
    pool: str = "token",
    dropout: float = 0.0,
) -> list[str]:
    width, heads = TIMM[name]
    channels, size, _ = shape
    settings = [
        f"img_size={size}, patch_size={patch}, in_chans={channels}, num_classes={classes}",
        f"embed_dim={width}, num_heads={heads}, depth={depth}",
    ]
    if pool == "mean":
        settings.append('class_token=False, global_pool="avg", fc_norm=False')
    if dropout:
        settings.append(f"pos_drop_rate={dropout}, proj_drop_rate={dropout}")
    return [
        "import timm",
        "model = timm.models.VisionTransformer(",
        *[f"    {line}," for line in settings],
        ")",
    ]


def _by_file(name: str, classes: int, options: dict[str, Any]) -> list[str]:
    if name in ("resnet18", "resnet50"):
        told = f"torchvision's {name} with {options['width']} channels for 64"
    elif name.startswith("resnet"):
        told = f"{name} of github.com/akamaster/pytorch_resnet_cifar10"
    else:
        depth, width = options.get("depth", 28), options.get("width", 10)
        told = (
            f"WideResNet({depth}, {classes}, widen_factor={width}) of "
            "github.com/xternalz/WideResNet-pytorch"
        )
    return [f"model = ...  # {told}, which no package installs"]
