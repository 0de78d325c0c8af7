"""The models in PyTorch, written a second time: for `test_models.py` to compare with.

Names are those of the published implementations that the package's docstrings name. The structure
here is another than the package's: functional calls, one block for all ResNets, patches by unfold,
attention spelled out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Dropout(nn.Module):
    """Dropout whose masks are drawn by ``stream``, in the order of the calls."""

    stream: Any = None

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = torch.from_numpy(self.stream.keep_mask(tuple(x.shape), 1 - self.p, "float64"))
        return x * keep / (1 - self.p)


def conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, bias=False)


class ResidualBlock(nn.Module):
    """``sizes`` are the kernels, ``widths`` the channels before and after each of them."""

    def __init__(self, sizes, widths, strides, shortcut):
        super().__init__()
        self.count = len(sizes)
        for i in range(self.count):
            setattr(self, f"conv{i + 1}", conv(widths[i], widths[i + 1], sizes[i], strides[i]))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        inputs, outputs, stride = widths[0], widths[-1], math.prod(strides)
        self.slices = shortcut == "A" and inputs != outputs
        if shortcut == "B" and (stride > 1 or inputs != outputs):
            projection = conv(inputs, outputs, 1, stride)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = x
        for i in range(1, self.count + 1):
            out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
            if i < self.count:
                out = F.relu(out)
        if self.slices:
            zeros = torch.zeros_like(out[:, : x.shape[1] // 2])
            x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)
        elif hasattr(self, "downsample"):
            x = self.downsample(x)
        return F.relu(x + out)


def basic(inputs, width, stride, shortcut):
    return ResidualBlock((3, 3), (inputs, width, width), (stride, 1), shortcut)


def bottleneck(inputs, width, stride, shortcut):
    return ResidualBlock((1, 3, 1), (inputs, width, width, 4 * width), (1, stride, 1), shortcut)


class CifarResNet(nn.Module):
    def __init__(self, depth, classes=10, channels=3):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, 16, 3), nn.BatchNorm2d(16)
        inputs = 16
        for i, width in enumerate((16, 32, 64)):
            blocks = []
            for j in range(depth // 6):
                blocks.append(basic(inputs, width, 2 if i and not j else 1, "A"))
                inputs = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
        return self.linear(F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0])


class ResNet(nn.Module):
    def __init__(self, block, counts, classes=1000, channels=3, width=64, stem="imagenet"):
        super().__init__()
        self.pooled = stem == "imagenet"
        self.conv1 = conv(channels, width, 7, 2) if self.pooled else conv(channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for i, count in enumerate(counts):
            blocks = []
            for j in range(count):
                blocks.append(block(inputs, width * 2**i, 2 if i and not j else 1, "B"))
                inputs = width * 2**i * (4 if block is bottleneck else 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.pooled:
            x = F.max_pool2d(x, 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return self.fc(x.mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, dropout):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        self.dropout = Dropout(dropout)
        if inputs != outputs:
            self.convShortcut = conv(inputs, outputs, 1, stride)

    def forward(self, x):
        shortcut, out = x, F.relu(self.bn1(x))
        if hasattr(self, "convShortcut"):
            shortcut = self.convShortcut(out)
        out = F.relu(self.bn2(self.conv1(out)))
        return shortcut + self.conv2(self.dropout(out))


class WideResNet(nn.Module):
    def __init__(self, depth, width, classes=10, channels=3, dropout=0.0):
        super().__init__()
        self.conv1 = conv(channels, 16, 3)
        inputs = 16
        for i in range(3):
            stage, blocks = nn.Module(), []
            for j in range(depth // 6):
                stride = 2 if i and not j else 1
                blocks.append(WideBlock(inputs, 16 * width * 2**i, stride, dropout))
                inputs = 16 * width * 2**i
            stage.layer = nn.Sequential(*blocks)
            setattr(self, f"block{i + 1}", stage)
        self.bn1, self.fc = nn.BatchNorm2d(inputs), nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.conv1(x)
        for stage in (self.block1, self.block2, self.block3):
            x = stage.layer(x)
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class PatchEmbed(nn.Module):
    def __init__(self, channels, patch, width):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x):
        columns = F.unfold(x, self.proj.kernel_size, stride=self.proj.stride)
        return columns.mT @ self.proj.weight.flatten(1).T + self.proj.bias


class Attention(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        outputs, d = [], x.shape[-1] // self.heads
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        for h in range(self.heads):
            at = slice(h * d, (h + 1) * d)
            scores = q[..., at] @ k[..., at].mT / math.sqrt(d)
            outputs.append(scores.softmax(-1) @ v[..., at])
        return self.dropout(self.proj(torch.cat(outputs, -1)))


class Mlp(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class TransformerBlock(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, 1e-6), Attention(width, heads, dropout)
        self.norm2, self.mlp = nn.LayerNorm(width, 1e-6), Mlp(width, dropout)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(
        self,
        width,
        heads,
        depth=12,
        image_size=224,
        patch=16,
        classes=1000,
        channels=3,
        pool="token",
        dropout=0.0,
    ):
        super().__init__()
        self.mean = pool == "mean"
        if not self.mean:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        tokens = (image_size // patch) ** 2 + (not self.mean)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.patch_embed = PatchEmbed(channels, patch, width)
        self.dropout = Dropout(dropout)
        self.blocks = nn.Sequential(
            *[TransformerBlock(width, heads, dropout) for _ in range(depth)]
        )
        self.norm = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patch_embed(x)
        if not self.mean:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.blocks(self.dropout(x + self.pos_embed)))
        return self.head(x.mean(1) if self.mean else x[:, 0])
