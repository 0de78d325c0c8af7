"""The layers: modules with parameters of their own, and those without."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rsam_backends import Stream, xp
from rsam_backends.base import Array
from rsam_backends.windows import pair
from rsam_ref.autograd import ops, ops_nn
from rsam_ref.autograd.errors import ShapeError
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.nn.initializers import Init, constant, uniform
from rsam_ref.nn.module import Module
from rsam_ref.nn.passes import current_pass
from rsam_ref.nn.weights import Parameter


def _at_least_one(of: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{of}: {name} must be at least 1, not {size}")


class Linear(Module):
    """``x @ weight.T + bias``; weights and biases drawn from U(-b, b), b = 1 / sqrt(inputs).

    With ``init`` it draws the weights, and the biases are 0.
    """

    def __init__(
        self, inputs: int, outputs: int, bias: bool = True, init: Init | None = None
    ) -> None:
        _at_least_one("Linear", inputs=inputs, outputs=outputs)
        usual = uniform(1 / math.sqrt(inputs))
        self.weight = Parameter((outputs, inputs), init or usual)
        self.bias = Parameter((outputs,), constant(0) if init else usual) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return ops_nn.linear(x, self.weight)
        return ops_nn.linear(x, self.weight, self.bias)


class Conv2d(Module):
    """Convolution of (N, C, H, W); drawn from U(-b, b), b = 1 / sqrt(weights of a filter).

    With ``init`` it draws the weights, and the biases are 0.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        init: Init | None = None,
    ) -> None:
        kernel_size = pair(kernel_size)
        _at_least_one("Conv2d", inputs=inputs, outputs=outputs, groups=groups)
        _at_least_one("Conv2d", kernel_size=min(kernel_size))
        if inputs % groups or outputs % groups:
            raise ValueError(
                f"Conv2d: {inputs} inputs and {outputs} outputs do not divide into {groups} groups"
            )
        shape = (outputs, inputs // groups, *kernel_size)
        usual = uniform(1 / math.sqrt(math.prod(shape[1:])))
        self.weight = Parameter(shape, init or usual)
        self.bias = Parameter((outputs,), constant(0) if init else usual) if bias else None
        self.stride, self.padding, self.groups = stride, padding, groups

    def forward(self, x: Tensor) -> Tensor:
        inputs = (x, self.weight) if self.bias is None else (x, self.weight, self.bias)
        return ops_nn.conv2d(*inputs, stride=self.stride, padding=self.padding, groups=self.groups)


class BatchNorm2d(Module):
    """Batch normalisation of (N, C, H, W).

    In training the batch's own statistics are used, and the running ones follow them:
    running <- (1 - momentum) running + momentum batch, with the unbiased variance, as in PyTorch.
    An `Objective` lets them move in the first pass of a step only. A batch with one value of each
    channel has no variance and is refused; an empty one moves nothing. With ``relu``, max(., 0) of
    that.
    """

    buffers = ("running_mean", "running_var")

    def __init__(
        self, channels: int, eps: float = 1e-5, momentum: float = 0.1, relu: bool = False
    ) -> None:
        self.weight = Parameter((channels,), constant(1))
        self.bias = Parameter((channels,), constant(0))
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.normalised = ops_nn.batch_norm_relu if relu else ops_nn.batch_norm

    def reset(self, dtype: Any) -> None:
        self.running_mean = xp.zeros(self.channels, dtype=dtype)
        self.running_var = xp.ones(self.channels, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.channels:
            raise ShapeError(
                f"BatchNorm2d: inputs of shape {x.shape}, but it is for {self.channels} channels: "
                f"give (N, {self.channels}, H, W)"
            )
        if self.training and x.size:
            return self._by_the_batch(x)
        return self.normalised(
            x,
            self.weight,
            self.bias,
            mean=self.running_mean,
            var=self.running_var,
            eps=self.eps,
            constant=True,
        )

    def _by_the_batch(self, x: Tensor) -> Tensor:
        here, n = current_pass(), x.size // self.channels  # n values of each channel
        mean, var = ops_nn.batch_statistics(x._data)
        across = None
        if here.shard is not None:  # x is a shard: the statistics are those of the whole batch
            mean, var = here.shard.statistics(mean, var)
            n = round(n / here.shard.share)
            across = here.shard.mean
        if n == 1:
            raise ShapeError(
                f"BatchNorm2d: inputs of shape {x.shape} have one value of each channel, and so no "
                "variance to train with: give larger batches (or images), or evaluate with .eval()"
            )
        if here.move_statistics:
            unbiased = n / (n - 1) * var
            self._follow(mean, unbiased)
        return self.normalised(
            x, self.weight, self.bias, mean=mean, var=var, eps=self.eps, across=across
        )

    def _follow(self, mean: Array, var: Array) -> None:
        m = self.momentum
        self.running_mean = (1 - m) * self.running_mean + m * mean
        self.running_var = (1 - m) * self.running_var + m * var


class LayerNorm(Module):
    """Normalisation of every row (the last axis)."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        self.weight = Parameter((width,), constant(1))
        self.bias = Parameter((width,), constant(0))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return ops_nn.layer_norm(x, self.weight, self.bias, eps=self.eps)


class GroupNorm(Module):
    """Normalisation of (N, C, H, W) in groups of channels, sample by sample."""

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        self.weight = Parameter((channels,), constant(1))
        self.bias = Parameter((channels,), constant(0))
        self.groups, self.eps = groups, eps

    def forward(self, x: Tensor) -> Tensor:
        return ops_nn.group_norm(x, self.weight, self.bias, groups=self.groups, eps=self.eps)


class Dropout(Module):
    """Zero values with probability p in training. Both passes of a step use the same mask.

    Outside of an objective, the t-th training pass of a model has the masks that t names; a part
    of a model that is called by itself has always the same.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p is the probability to drop and lies in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return ops_nn.dropout(x, self.p, current_pass().stream or Stream("dropout", 0))


class ReLU(Module):
    """max(x, 0), on any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return ops_nn.relu(x)


class GELU(Module):
    """x * P(Z <= x): exact, or approximate="tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate is 'none' or 'tanh', not {approximate!r}")
        self.approximate = approximate == "tanh"

    def forward(self, x: Tensor) -> Tensor:
        return ops_nn.gelu(x, approximate=self.approximate)


class Tanh(Module):
    """The hyperbolic tangent, on any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class MaxPool2d(Module):
    """The largest value of every window: (N, C, H, W) -> (N, C, Ho, Wo).

    Without a stride the windows lie side by side.
    """

    def __init__(self, window: int, stride: int | None = None, padding: int = 0) -> None:
        self.window, self.stride, self.padding = window, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return ops_nn.max_pool2d(x, window=self.window, stride=self.stride, padding=self.padding)


class GlobalAvgPool2d(Module):
    """(N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops_nn.global_avg_pool2d(x)


class Flatten(Module):
    """(N, ...) -> (N, everything else)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1)


class Sequential(Module):
    """Modules one after another; named 0, 1, 2, ... as in PyTorch."""

    def __init__(self, *layers: Module) -> None:
        self.layers = list(layers)

    def children(self) -> Iterator[tuple[str, Module]]:
        for i, layer in enumerate(self.layers):
            yield str(i), layer

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
