"""The Vision Transformer (Dosovitskiy et al. 2021): an image as a sequence of patches.

Each patch becomes a token, a row of ``width`` numbers. A block lets the tokens look at each other
(attention), then changes each on its own (mlp); both are corrections to their input, normalised
first. The sizes and names are timm's, with LayerNorm's eps 1e-6 and the exact GELU.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from rsam_ref.autograd import ops
from rsam_ref.autograd.errors import ShapeError
from rsam_ref.autograd.ops_nn import self_attention
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.nn.initializers import constant, truncated_normal
from rsam_ref.nn.layers import GELU, Conv2d, Dropout, LayerNorm, Linear, Sequential
from rsam_ref.nn.module import Module
from rsam_ref.nn.weights import Parameter

INIT = truncated_normal(0.02)


class PatchEmbed(Module):
    """Images (N, C, H, W) to tokens (N, L, D): one linear map for all L = H/p * W/p patches."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        self.proj = Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)  # (N, D, H/p, W/p)
        return x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)


class Attention(Module):
    """Self-attention in ``heads`` parts of the width: (N, L, D) -> (N, L, D).

    The rows of qkv.weight (3D, D) are all queries', then all keys', then all values'; within each,
    head by head.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        self.qkv = Linear(width, 3 * width, init=INIT)
        self.proj = Linear(width, width, init=INIT)
        self.dropout = Dropout(dropout)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        qkv = qkv.transpose(2, 0, 3, 1, 4)  # (3, N, heads, L, D / heads)
        out = self_attention(qkv)
        out = out.transpose(0, 2, 1, 3).reshape(n, tokens, width)  # heads side by side again
        return self.dropout(self.proj(out))


class Mlp(Module):
    """Two linear layers on every token, 4 times as wide between: (N, L, D) -> (N, L, D)."""

    def __init__(self, width: int, dropout: float) -> None:
        self.fc1 = Linear(width, 4 * width, init=INIT)
        self.act = GELU()
        self.fc2 = Linear(4 * width, width, init=INIT)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.act(self.fc1(x)))
        return self.dropout(self.fc2(x))


class Block(Module):
    """Attention, then two layers on every token: (N, L, D) -> (N, L, D)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        self.norm1 = LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, dropout)
        self.norm2 = LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(Module):
    """Patch tokens, blocks, a head: images (N, C, H, W) to scores (N, classes)."""

    def __init__(
        self,
        width: int,
        heads: int,
        depth: int,
        image_size: int,
        patch: int,
        classes: int,
        channels: int,
        pool: str,
        dropout: float,
    ) -> None:
        self.image = channels, image_size, image_size
        tokens = (image_size // patch) ** 2 + (pool == "token")
        self.cls_token = Parameter((1, 1, width), constant(0)) if pool == "token" else None
        self.pos_embed = Parameter((1, tokens, width), INIT)
        self.patch_embed = PatchEmbed(channels, patch, width)
        self.dropout = Dropout(dropout)
        self.blocks = Sequential(*[Block(width, heads, dropout) for _ in range(depth)])
        self.norm = LayerNorm(width, eps=1e-6)
        self.head = Linear(width, classes, init=INIT)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.image:
            raise ShapeError(
                f"VisionTransformer: images of shape {x.shape[1:]}, but this model has position "
                f"embeddings for {self.image}; resize the images, or build it for that image_size"
            )
        x = self.patch_embed(x)  # (N, L, D)
        if self.cls_token is not None:
            first = ops.broadcast_to(self.cls_token, shape=(x.shape[0], 1, x.shape[2]))
            x = ops.concatenate(first, x, axis=1)  # (N, 1 + L, D)
        x = self.norm(self.blocks(self.dropout(x + self.pos_embed)))
        return self.head(x.mean(axis=1) if self.cls_token is None else x[:, 0])


def vision_transformer(
    width: int,
    heads: int,
    *,
    depth: int = 12,
    image_size: int = 224,
    patch: int = 16,
    classes: int = 1000,
    channels: int = 3,
    pool: str = "token",
    dropout: float = 0.0,
    seed: int = 0,
    dtype: Any = "float32",
) -> Module:
    """Images (N, channels, image_size, image_size) to (N, classes).

    ``vit_tiny``, ``vit_small`` and ``vit_base`` have widths 192, 384, 768 with 3, 6, 12 heads, and
    5,717,416, 22,050,664 and 86,567,656 parameters by default. PyTorch's counterparts, with the
    same state_dict, are timm's ``vit_tiny_patch16_224`` and so on.

    Linear weights and position embeddings are drawn from N(0, 0.02^2) cut at two standard
    deviations; their biases and the class token are 0; the patch embedding is drawn as `Conv2d` is.
    (timm's cut lies at 100 standard deviations, and its class token is drawn with 1e-6.)

    Parameters
    ----------
    patch:
        The side of a patch in pixels; it divides ``image_size``.
    pool:
        "token": a class token is put before the patches, and the head reads it at the end, after
        the last norm. "mean": there is none; the head reads the mean over the normalised patches,
        as in Beyer et al. 2022, "Better plain ViT baselines" (whose position embeddings are fixed;
        here they are learned). timm's names for it: ``class_token=False, global_pool="avg",
        fc_norm=False``.
    dropout:
        The probability to drop: after the position embeddings, the attention's projection, the
        GELU and the mlp's second layer (timm's ``pos_drop_rate`` and ``proj_drop_rate``).
    """
    if patch < 1 or image_size % patch:
        sizes = [str(p) for p in range(1, image_size + 1) if image_size % p == 0]
        raise ValueError(
            f"vision_transformer: patch {patch} does not divide image_size {image_size}; choose "
            f"one of {', '.join(sizes)}"
        )
    if heads < 1 or width % heads:
        raise ValueError(
            f"vision_transformer: {heads} heads do not share width {width} evenly; choose a "
            "number of heads that divides it"
        )
    if depth < 1:
        raise ValueError(f"vision_transformer: depth counts the blocks, >= 1, not {depth}")
    if pool not in ("token", "mean"):
        raise ValueError(f"vision_transformer: pool is 'token' or 'mean', not {pool!r}")
    return VisionTransformer(
        width, heads, depth, image_size, patch, classes, channels, pool, dropout
    ).build(seed, dtype)


vit_tiny = partial(vision_transformer, 192, 3)
vit_small = partial(vision_transformer, 384, 6)
vit_base = partial(vision_transformer, 768, 12)
