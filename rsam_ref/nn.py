"""Modules: layers that own parameters, and the one flat vector that all parameters live in.

`Module.build` lays the parameters of a model end to end in one vector, ``model.weights.flat``, and
makes each a view into it. The order is that in which the layers, and the parameters in a layer,
were assigned (weight before bias), depth first: PyTorch's ``parameters()`` order. Within a
parameter it is C order with the output axis first, so every filter is a contiguous run.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rsam_backends import Stream, to_device, to_host, xp
from rsam_backends.base import Array
from rsam_backends.windows import pair
from rsam_ref import ops, ops_nn
from rsam_ref.shards import Group
from rsam_ref.tensor import GraphError, Leaf, Node, ShapeError, Tensor, no_grad

Init = Callable[[Stream, tuple[int, ...], Any], Array]


class _Pass(threading.local):
    """How the forward pass under way is to be run; an `Objective` sets it for its passes."""

    move_statistics = True  # whether batch norm's running statistics follow this batch
    stream: Stream | None = None  # where dropout's masks come from
    guarded = True  # whether to check that the weights stay as they are until backward
    model: Module | None = None  # the whole model whose forward is under way
    group: Group | None = None  # the other shards of the mini-batch, if there are any


current_pass = _Pass()


def uniform(bound: float) -> Init:
    """Draw from [-bound, bound)."""
    return lambda stream, shape, dtype: stream.uniform(shape, -bound, bound, dtype)


def normal(std: float) -> Init:
    """Draw from N(0, std^2)."""
    return lambda stream, shape, dtype: std * stream.normal(shape, dtype)


def truncated_normal(std: float) -> Init:
    """Draw from N(0, std^2), and again whatever lies beyond two std; 0.88 std remains.

    PyTorch's ``trunc_normal_(w, std=std, a=-2 * std, b=2 * std)``; its default bounds are -2 and 2.
    """

    def draw(stream: Stream, shape: tuple[int, ...], dtype: Any) -> Array:
        z = to_host(stream.normal(shape, dtype))
        while count := int((beyond := abs(z) > 2).sum()):
            z[beyond] = to_host(stream.normal(count, dtype))
        return to_device(std * z)

    return draw


def constant(value: float) -> Init:
    return lambda stream, shape, dtype: xp.full(shape, value, dtype)


class Parameter(Tensor):
    """A tensor of trainable weights. It has a shape at once, and values when its model is built."""

    __slots__ = ("declared", "init", "leaf")

    def __init__(self, shape: tuple[int, ...], init: Init) -> None:
        self.declared = shape
        self.init = init
        self._data: Any = None
        self.leaf = Leaf(None)
        self.node = self.leaf

    @property
    def shape(self) -> tuple[int, ...]:
        return self.declared


class Weights:
    """All parameters of a model in one vector: ``flat`` (P,), to be changed in place."""

    def __init__(self, parameters: dict[str, Parameter], dtype: Any) -> None:
        self.names = list(parameters)
        self.parameters = list(parameters.values())
        self.shapes = [p.declared for p in self.parameters]
        self.slices = []
        start = 0
        for shape in self.shapes:
            self.slices.append(slice(start, start + math.prod(shape)))
            start += math.prod(shape)
        self.flat: Array = xp.empty(start, dtype)
        for p in self.parameters:
            p.node = p.leaf = Leaf(self.flat.dtype)
        self.bind(self.flat)

    def views(self, vector: Array) -> list[Array]:
        """The vector's parts in the shapes of the parameters: views, not copies."""
        return [vector[at].reshape(shape) for at, shape in zip(self.slices, self.shapes)]

    def bind(self, vector: Array) -> None:
        """Let the parameters be views into ``vector``."""
        for p, view in zip(self.parameters, self.views(vector)):
            p._data = view

    @contextmanager
    def at(self, vector: Array) -> Iterator[None]:
        """In this block the parameters are views into ``vector``: the model is looked at there."""
        self.bind(vector)
        try:
            yield
        finally:
            self.bind(self.flat)

    def __deepcopy__(self, memo: dict[int, Any]) -> Weights:
        """A copy whose parameters are views into its own vector."""
        copied = copy.copy(self)
        memo[id(self)] = copied
        copied.parameters = copy.deepcopy(self.parameters, memo)
        copied.flat = self.flat.copy()
        copied.bind(copied.flat)
        return copied

    @property
    def gradient(self) -> Array:
        """The parameters' gradients after `backward`, in one new vector (P,); 0 where none came."""
        vector = xp.zeros_like(self.flat)
        for p, view in zip(self.parameters, self.views(vector)):
            if p.grad is not None:
                view[...] = p.grad
        return vector


class Module:
    """A function with parameters.

    A subclass assigns its parameters and modules in ``__init__`` and defines ``forward``. The first
    call builds the model with seed 0 in float32; call `build` before it for anything else.
    """

    training = True
    buffers: tuple[str, ...] = ()  # names of arrays that are state, but not trained
    _weights: Weights | None = None
    _built = False

    def forward(self, *inputs: Any) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has to define forward")

    def __call__(self, *inputs: Any) -> Tensor:
        if not self._built:
            _refuse_latecomer(self)
            self.build()
        inputs = tuple([x if isinstance(x, Tensor) else Tensor(x) for x in inputs])
        if self._weights is None:  # a part of a larger model
            return self.forward(*inputs)
        before, current_pass.model = current_pass.model, self
        try:
            out = self.forward(*inputs)
        finally:
            current_pass.model = before
        if current_pass.guarded and out.node is not None:
            return _guarded(out, self._weights)
        return out

    def build(self, seed: int = 0, dtype: Any = "float32") -> Module:
        """Draw all weights from ``Stream("weights", seed)``, into one flat vector. Returns self."""
        modules = list(self.modules().values())
        for module in modules:
            _refuse_hidden(module)
        for module in modules:
            module._built, module._weights = True, None
            module.reset(dtype)
        self._weights = Weights(self.parameters(), dtype)
        stream = Stream("weights", seed)
        for p in self._weights.parameters:
            p._data[...] = p.init(stream, p.declared, dtype)
        return self

    def reset(self, dtype: Any) -> None:
        """Give the buffers their first values."""

    @property
    def weights(self) -> Weights:
        """The flat weights of this model."""
        if not self._built:
            self.build()
        if self._weights is None:
            raise AttributeError(
                f"this {type(self).__name__} is a part of a larger model: its weights lie in "
                "the flat vector of the whole, the module that was built"
            )
        return self._weights

    def children(self) -> Iterator[tuple[str, Module]]:
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{name}.{i}", item

    def modules(self, prefix: str = "") -> dict[str, Module]:
        """This module and all within it, by name; its own name is the empty one."""
        found = {prefix: self}
        for name, child in self.children():
            found |= child.modules(f"{prefix}.{name}" if prefix else name)
        return found

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter by its (first) name, in the order of the flat vector."""
        found: dict[str, Parameter] = {}
        for prefix, module in self.modules().items():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and value not in found.values():
                    found[f"{prefix}.{name}" if prefix else name] = value
        return found

    def train(self, training: bool = True) -> Module:
        """Training behaviour: dropout drops, batch norm uses the batch. Returns self."""
        for module in self.modules().values():
            module.training = training
        return self

    @contextmanager
    def in_mode(self, training: bool) -> Iterator[None]:
        """In this block as after ``train(training)``; then every layer is in its own mode again."""
        before = [(module, module.training) for module in self.modules().values()]
        self.train(training)
        try:
            yield
        finally:
            for module, mode in before:
                module.training = mode

    def eval(self) -> Module:
        """Evaluation behaviour: no dropout, batch norm's running statistics. Returns self."""
        return self.train(False)

    def state_dict(self) -> dict[str, Any]:
        """Copies of all parameters and buffers on the host, under PyTorch's names."""
        state = {}
        weights = self.weights
        for name, view in zip(weights.names, weights.views(weights.flat)):
            state[name] = to_host(view).copy()
        for prefix, module in self.modules().items():
            for name in module.buffers:
                key = f"{prefix}.{name}" if prefix else name
                state[key] = to_host(getattr(module, name)).copy()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over parameters and buffers: arrays, or PyTorch tensors on the CPU, by name.

        PyTorch's ``num_batches_tracked`` is passed over. Names that are missing or unknown, wrong
        shapes and values that are not finite are errors, and then nothing has changed.
        """
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        own = self.state_dict()
        if missing := sorted(own.keys() - state.keys()):
            raise KeyError(f"the state has no {', '.join(missing)}; it is of another model")
        if unknown := sorted(state.keys() - own.keys()):
            raise KeyError(f"the model has no {', '.join(unknown)}; the state is of another model")
        arrays = {name: to_device(value) for name, value in state.items()}
        for name, array in arrays.items():
            if array.shape != own[name].shape:
                raise ValueError(f"{name} has shape {array.shape}, the model's {own[name].shape}")
            if not xp.isfinite(array).all():
                raise ValueError(f"{name} holds values that are not finite")
        weights = self.weights
        for name, at in zip(weights.names, weights.slices):
            weights.flat[at] = arrays[name].ravel()
        for prefix, module in self.modules().items():
            for name in module.buffers:
                key = f"{prefix}.{name}" if prefix else name
                setattr(module, name, xp.array(arrays[key], dtype=weights.flat.dtype))


def _refuse_hidden(module: Module) -> None:
    """Raise TypeError for modules and parameters that lie where `Module.children` does not look."""

    def holds_any(value: Any) -> bool:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple, set)):
            return any(holds_any(item) for item in value)
        return isinstance(value, (Module, Parameter))

    for name, value in vars(module).items():
        if isinstance(value, (list, tuple)):
            unseen = [item for item in value if not isinstance(item, Module)]
        else:
            unseen = [value] if isinstance(value, (dict, set)) else []
        if holds_any(unseen):
            raise TypeError(
                f"{type(module).__name__}.{name}: what lies in it would never be trained; let "
                "parameters be attributes, and modules attributes or items of a flat list"
            )


def _refuse_latecomer(module: Module) -> None:
    """Raise RuntimeError for a module not built although the model that runs it is."""
    if current_pass.model is not None:
        whole = type(current_pass.model).__name__
        raise RuntimeError(
            f"this {type(module).__name__} was no part of the {whole} when that was built, so it "
            f"would never be trained; assign it in __init__, or build the {whole} again"
        )


def _guarded(out: Tensor, weights: Weights) -> Tensor:
    """``out``, through which backward is an error if the flat weights have changed by then."""
    before = weights.flat.copy()

    def vjp(g: Array) -> Array:
        if not ((before == weights.flat) | (before != before)).all():  # nan is not equal to nan
            raise GraphError(
                "backward: the weights were changed in place after the forward pass, so the "
                "gradient would belong to neither; call backward before the optimizer's step"
            )
        return g

    return Tensor.over(out._data, Node((out.node,), (vjp,)))


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
    An `Objective` lets them move in the first pass of a step only.
    """

    buffers = ("running_mean", "running_var")

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.weight = Parameter((channels,), constant(1))
        self.bias = Parameter((channels,), constant(0))
        self.channels, self.eps, self.momentum = channels, eps, momentum

    def reset(self, dtype: Any) -> None:
        self.running_mean = xp.zeros(self.channels, dtype)
        self.running_var = xp.ones(self.channels, dtype)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.channels:
            raise ShapeError(
                f"BatchNorm2d: inputs of shape {x.shape}, but it is for {self.channels} channels: "
                f"give (N, {self.channels}, H, W)"
            )
        across: dict[str, Any] = {}
        if self.training:
            mean, var = ops_nn.batch_statistics(x._data)
            n, group = x.size // self.channels, current_pass.group
            if group is not None:
                own, mean = mean, group.mean(mean)
                var = group.mean(var + (own - mean) ** 2)
                n = round(n / group.share)
                across = {"across": group.mean}
            if current_pass.move_statistics:
                m = self.momentum
                self.running_mean = (1 - m) * self.running_mean + m * mean
                self.running_var = (1 - m) * self.running_var + m * n / max(n - 1, 1) * var
        else:
            mean, var = self.running_mean, self.running_var
        return ops_nn.batch_norm(
            x,
            self.weight,
            self.bias,
            mean=mean,
            var=var,
            eps=self.eps,
            constant=not self.training,
            **across,
        )


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
    """Zero values with probability p in training. Both passes of a step use the same mask."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p is the probability to drop and lies in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if current_pass.stream is None:
            current_pass.stream = Stream("dropout", 0)
        return ops_nn.dropout(x, self.p, current_pass.stream)


class ReLU(Module):
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
    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class MaxPool2d(Module):
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


INPUTS_NOT_FINITE = "the inputs hold values that are not finite"


def first_not_finite(model: Module, x: Any) -> str | None:
    """Where a model's values first stop being finite: a sentence that names the layer, or None.

    Reads values back from the device after every layer, so it is for finding a fault, not for use
    in a step.
    """
    weights = model.weights
    if not xp.isfinite(x._data if isinstance(x, Tensor) else xp.asarray(x)).all():
        return INPUTS_NOT_FINITE
    for name, p in zip(weights.names, weights.parameters):
        if not xp.isfinite(p._data).all():
            return f"the weights of {name} are not finite (the step before had diverged)"

    culprit: list[str] = []
    names = {id(module): name for name, module in model.modules().items()}

    def watch(module: Module) -> Callable[..., Tensor]:
        def forward(*inputs: Any) -> Tensor:
            out = type(module).forward(module, *inputs)
            if not culprit and not xp.isfinite(out._data).all():
                culprit.append(f"{names[id(module)] or 'model'} ({type(module).__name__})")
            return out

        return forward

    modules = list(model.modules().values())
    before = [vars(module).get("forward") for module in modules]
    try:
        for module in modules:
            module.forward = watch(module)  # type: ignore[method-assign]
        with no_grad(), frozen_statistics():
            model(x)
    finally:
        for module, forward in zip(modules, before):
            del module.forward
            if forward is not None:
                module.forward = forward  # type: ignore[method-assign]
    if culprit:
        return f"the output of {culprit[0]} is not finite"
    return None


class frozen_statistics:  # noqa: N801 - used as a block
    """Inside this block batch norm's running statistics stay as they are."""

    def __enter__(self) -> None:
        self._before = current_pass.move_statistics
        current_pass.move_statistics = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        current_pass.move_statistics = self._before
