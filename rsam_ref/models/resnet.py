"""Residual networks (He et al. 2016): the narrow ones for CIFAR, and the ones for ImageNet.

Every block adds a correction to its input, relu(shortcut(x) + f(x)). Where a block changes the
shape of x, its shortcut has to do so as well: by slicing and zeros (the paper's option A, without
weights) in the networks for CIFAR, by a 1 x 1 convolution (option B) in those for ImageNet.

Convolutions have no bias and are drawn from N(0, 2 / (outputs * kernel area)) (He et al. 2015, fan
out); batch norm starts at scale 1 and shift 0, and the last layer as `Linear` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from rsam_ref.autograd import ops
from rsam_ref.autograd.ops_nn import add_relu
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.nn.initializers import constant, normal
from rsam_ref.nn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, MaxPool2d, Sequential
from rsam_ref.nn.module import Module


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> Conv2d:
    """A convolution of odd ``size``; at stride 1 the images keep theirs."""
    he = normal(math.sqrt(2 / (outputs * size * size)))
    return Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False, init=he)


class ZeroPadding(Module):
    """Option A: every second row and column; half of the new channels lie before x's, half after.

    (N, inputs, H, W) -> (N, outputs, H / stride, W / stride), sizes rounded up.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        before = (outputs - inputs) // 2
        self.channels = before, outputs - inputs - before
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return ops.pad(x, widths=((0, 0), self.channels, (0, 0), (0, 0)))


def projection(inputs: int, outputs: int, stride: int) -> Module:
    """Option B: a 1 x 1 convolution, normalised."""
    return Sequential(convolution(inputs, outputs, 1, stride), BatchNorm2d(outputs))


class BasicBlock(Module):
    """f is two 3 x 3 convolutions; the first one strides."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, shortcut: Module | None) -> None:
        self.conv1 = convolution(inputs, width, 3, stride)
        self.bn1 = BatchNorm2d(width, relu=True)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = BatchNorm2d(width)
        self.downsample = shortcut

    @property
    def last_norm(self) -> BatchNorm2d:
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))
        out = self.bn2(self.conv2(out))
        return add_relu(out, x if self.downsample is None else self.downsample(x))


class Bottleneck(Module):
    """f is 1 x 1, 3 x 3 and 1 x 1 convolutions to 4 * width channels; the middle one strides.

    (The paper lets the first one stride; torchvision, and most since, the middle one.)
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, shortcut: Module | None) -> None:
        outputs = width * self.expansion
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = BatchNorm2d(width, relu=True)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = BatchNorm2d(width, relu=True)
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = BatchNorm2d(outputs)
        self.downsample = shortcut

    @property
    def last_norm(self) -> BatchNorm2d:
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))
        out = self.bn2(self.conv2(out))
        out = self.bn3(self.conv3(out))
        return add_relu(out, x if self.downsample is None else self.downsample(x))


Block = type[BasicBlock] | type[Bottleneck]


def stage(
    block: Block,
    count: int,
    inputs: int,
    width: int,
    stride: int,
    shortcut: Callable[[int, int, int], Module],
) -> Sequential:
    """``count`` blocks, of which the first may change the shape of the images."""
    outputs = width * block.expansion
    changes = stride != 1 or inputs != outputs
    first = block(inputs, width, stride, shortcut(inputs, outputs, stride) if changes else None)
    return Sequential(first, *[block(outputs, width, 1, None) for _ in range(count - 1)])


class CifarResNet(Module):
    """Three stages of n basic blocks, 16, 32 and 64 channels wide, with shortcuts of option A."""

    def __init__(self, n: int, classes: int, channels: int) -> None:
        self.conv1 = convolution(channels, 16, 3)
        self.bn1 = BatchNorm2d(16, relu=True)
        self.layer1 = stage(BasicBlock, n, 16, 16, 1, ZeroPadding)
        self.layer2 = stage(BasicBlock, n, 16, 32, 2, ZeroPadding)
        self.layer3 = stage(BasicBlock, n, 32, 64, 2, ZeroPadding)
        self.pool = GlobalAvgPool2d()
        self.linear = Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.pool(x))


def cifar_resnet(
    depth: int, *, classes: int = 10, channels: int = 3, seed: int = 0, dtype: Any = "float32"
) -> Module:
    """The paper's section 4.2, ``depth`` = 6n + 2: (N, channels, H, W) to (N, classes).

    ``resnet20``, ``resnet32``, ``resnet56``: 269,722, 464,154 and 853,018 parameters. PyTorch's
    counterpart, with the same state_dict, is github.com/akamaster/pytorch_resnet_cifar10 (whose
    saved files put "module." before every name).
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"cifar_resnet: depth is 6n + 2 with n >= 1 (8, 14, 20, ...), not {depth}")
    return CifarResNet((depth - 2) // 6, classes, channels).build(seed, dtype)


class ResNet(Module):
    """Four stages of blocks, ``width``, 2, 4 and 8 times as wide, with shortcuts of option B."""

    def __init__(
        self,
        block: Block,
        counts: tuple[int, int, int, int],
        classes: int,
        channels: int,
        width: int,
        stem: str,
    ) -> None:
        self.small = stem == "cifar"
        self.conv1 = convolution(channels, width, *((3, 1) if self.small else (7, 2)))
        self.bn1 = BatchNorm2d(width, relu=True)
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        e = block.expansion
        self.layer1 = stage(block, counts[0], width, width, 1, projection)
        self.layer2 = stage(block, counts[1], e * width, 2 * width, 2, projection)
        self.layer3 = stage(block, counts[2], 2 * e * width, 4 * width, 2, projection)
        self.layer4 = stage(block, counts[3], 4 * e * width, 8 * width, 2, projection)
        self.avgpool = GlobalAvgPool2d()
        self.fc = Linear(8 * e * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        if not self.small:
            x = self.maxpool(x)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x))


def imagenet_resnet(
    block: Block,
    counts: tuple[int, int, int, int],
    *,
    classes: int = 1000,
    channels: int = 3,
    width: int = 64,
    stem: str = "imagenet",
    zero_init_residual: bool = False,
    seed: int = 0,
    dtype: Any = "float32",
) -> Module:
    """The paper's section 4.1: images (N, channels, H, W) to (N, classes).

    ``resnet18`` and ``resnet50`` have 11,689,512 and 25,557,032 parameters at 1000 classes.
    PyTorch's counterparts, with the same state_dict, are torchvision's.

    Parameters
    ----------
    width:
        The channels of the first stage.
    stem:
        "imagenet" begins with a 7 x 7 convolution and max pooling, both of stride 2. "cifar" has a
        3 x 3 convolution of stride 1 and no pooling; what papers on CIFAR call ResNet-18
        (11,173,962 parameters at 10 classes).
    zero_init_residual:
        Whether the last batch norm of every block starts at scale 0, and so the block without a
        correction (Goyal et al. 2017).
    """
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f"imagenet_resnet: stem is 'imagenet' or 'cifar', not {stem!r}")
    model = ResNet(block, counts, classes, channels, width, stem)
    for module in model.modules().values():
        if isinstance(module, block) and zero_init_residual:
            module.last_norm.weight.init = constant(0)
    return model.build(seed, dtype)


resnet20 = partial(cifar_resnet, 20)
resnet32 = partial(cifar_resnet, 32)
resnet56 = partial(cifar_resnet, 56)
resnet18 = partial(imagenet_resnet, BasicBlock, (2, 2, 2, 2))
resnet50 = partial(imagenet_resnet, Bottleneck, (3, 4, 6, 3))
