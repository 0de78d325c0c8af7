"""Wide residual networks (Zagoruyko and Komodakis 2016): fewer blocks, wider ones.

A block is x + f(x) with normalisation and ReLU *before* each convolution (He et al. 2016b), so that
nothing but additions lies on the way from the first convolution to the last normalisation. Where
the number of channels changes, the shortcut is a 1 x 1 convolution of relu(bn1(x)).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from rsam_ref.autograd.tensor import Tensor
from rsam_ref.models.resnet import convolution
from rsam_ref.nn.layers import BatchNorm2d, Dropout, GlobalAvgPool2d, Linear, Sequential
from rsam_ref.nn.module import Module


class Block(Module):
    """Two 3 x 3 convolutions, dropout between; the first one strides."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        self.bn1 = BatchNorm2d(inputs, relu=True)
        self.conv1 = convolution(inputs, outputs, 3, stride)
        self.bn2 = BatchNorm2d(outputs, relu=True)
        self.dropout = Dropout(dropout)
        self.conv2 = convolution(outputs, outputs, 3)
        changes = inputs != outputs
        self.convShortcut = convolution(inputs, outputs, 1, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.bn1(x)
        out = self.bn2(self.conv1(active))
        out = self.conv2(self.dropout(out))
        return out + (x if self.convShortcut is None else self.convShortcut(active))


class Stage(Module):
    """n blocks, of which the first may change the shape of the images."""

    def __init__(self, n: int, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        first = Block(inputs, outputs, stride, dropout)
        self.layer = Sequential(first, *[Block(outputs, outputs, 1, dropout) for _ in range(n - 1)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(Module):
    """Three stages of n blocks, 16, 32 and 64 times ``width`` channels wide."""

    def __init__(self, n: int, width: int, classes: int, channels: int, dropout: float) -> None:
        self.conv1 = convolution(channels, 16, 3)
        self.block1 = Stage(n, 16, 16 * width, 1, dropout)
        self.block2 = Stage(n, 16 * width, 32 * width, 2, dropout)
        self.block3 = Stage(n, 32 * width, 64 * width, 2, dropout)
        self.bn1 = BatchNorm2d(64 * width, relu=True)
        self.pool = GlobalAvgPool2d()
        self.fc = Linear(64 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.pool(self.bn1(x)))


def wide_resnet(
    depth: int = 28,
    width: int = 10,
    *,
    classes: int = 10,
    channels: int = 3,
    dropout: float = 0.0,
    seed: int = 0,
    dtype: Any = "float32",
) -> Module:
    """WRN-depth-width, ``depth`` = 6n + 4: images (N, channels, H, W) to (N, classes).

    ``wrn28_10`` has 36,479,194 parameters. First weights as in `resnet.py`. PyTorch's counterpart,
    with the same state_dict, is github.com/xternalz/WideResNet-pytorch (RobustBench and TRADES use
    its names too). ``dropout`` is the probability to drop; the paper tries 0.3.
    """
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"wide_resnet: depth is 6n + 4 with n >= 1 (10, 16, 22, ...), not {depth}")
    if width < 1:
        raise ValueError(f"wide_resnet: width multiplies 16, 32 and 64 channels, >= 1, not {width}")
    return WideResNet((depth - 4) // 6, width, classes, channels, dropout).build(seed, dtype)


wrn28_10 = partial(wide_resnet, 28, 10)
