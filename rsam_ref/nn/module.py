"""Modules: layers that own parameters, and the one flat vector that all parameters live in.

`Module.build` lays the parameters of a model end to end in one vector, ``model.weights.flat``, and
makes each a view into it. The order is that in which the layers, and the parameters in a layer,
were assigned (weight before bias), depth first: PyTorch's ``parameters()`` order. Within a
parameter it is C order with the output axis first, so every filter is a contiguous run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rsam_backends import Stream, quiet, require_here, to_device, to_host, xp
from rsam_backends.base import Array
from rsam_ref.autograd.errors import GraphError
from rsam_ref.autograd.tensor import Node, Tensor
from rsam_ref.nn.passes import current_pass, passing
from rsam_ref.nn.weights import Parameter, Weights

COUNTERS = ("num_batches_tracked", "n_averaged")
"""What PyTorch counts in a state and no model here does."""


OF_A_MODEL = "build one here, and give it this one's state_dict(), which lies on the host"
"""What to do about a model of another backend."""


class Module:
    """A function with parameters.

    A subclass assigns its parameters and modules in ``__init__`` and defines ``forward``. The first
    call builds the model with seed 0 in float32; call `build` before it for anything else.
    """

    training = True
    buffers: tuple[str, ...] = ()  # names of arrays that are state, but not trained
    _weights: Weights | None = None
    _built = False
    _has_buffers = True  # whether any module within has, as far as is known
    _passes = 0  # forward passes in training that no objective asked for

    def forward(self, *inputs: Any) -> Tensor:
        """What this module makes of its inputs; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} has to define forward")

    def __call__(self, *inputs: Any) -> Tensor:
        """`forward` of tensors, or of arrays made tensors; the whole model is built if need be."""
        if not self._built:
            _refuse_latecomer(self)
            self.build()
        if self._weights is not None:
            require_here(self._weights.flat, "the model", OF_A_MODEL)
        inputs = tuple([x if isinstance(x, Tensor) else Tensor(x) for x in inputs])
        if self._weights is None:  # a part of a larger model
            return self.forward(*inputs)
        here = current_pass()
        with passing(model=self, stream=here.stream or self._own_stream()):
            out = self.forward(*inputs)
        if here.guarded and out.node is not None:
            return _guarded(out, self._weights)
        return out

    def __repr__(self) -> str:
        """The layers within, a line each, with the shapes of their own parameters."""
        own = ", ".join(
            f"{name} {tuple(value.declared)}"
            for name, value in vars(self).items()
            if isinstance(value, Parameter)
        )
        head = f"{type(self).__name__}({own})"
        inner = [f"{name}: {child!r}" for name, child in self.children()]
        return head + "".join("\n  " + line.replace("\n", "\n  ") for line in inner)

    def _own_stream(self) -> Stream | None:
        """Dropout's stream where no objective gives one: of the model's own count of passes."""
        if not self.training:
            return None
        self._passes += 1
        return Stream("dropout", 0, self._passes - 1)

    def build(self, seed: int = 0, dtype: Any = "float32") -> Module:
        """Draw all weights from ``Stream("weights", seed)``, into one flat vector. Returns self.

        ``dtype`` is float32 or float64, for which other numbers are drawn.
        """
        if str(getattr(dtype, "__name__", dtype)).rpartition(".")[2] not in ("float32", "float64"):
            raise ValueError(f"a model's weights are float32 or float64, not {dtype}")
        modules = list(self.modules().values())
        for module in modules:
            _refuse_hidden(module)
        for module in modules:
            module._built, module._weights, module._passes = True, None, 0
            module.reset(dtype)
        self._has_buffers = any(module.buffers for module in modules)
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
        """The modules right within this one, by the names that they have here."""
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
        known: set[int] = set()
        for prefix, module in self.modules().items():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in known:
                    known.add(id(value))
                    found[f"{prefix}.{name}" if prefix else name] = value
        return found

    def buffer_values(self) -> list[tuple[Module, str, Array]]:
        """Every buffer as (module, name, array): what a pass may move, to put back."""
        if not self._has_buffers:
            return []
        modules = self.modules().values()
        return [(m, name, getattr(m, name)) for m in modules for name in m.buffers]

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

        PyTorch's counters, ``num_batches_tracked`` and ``n_averaged``, are passed over.
        Names that are missing or unknown, wrong shapes and values that are not finite are errors,
        and then nothing has changed.
        """
        state = {name: value for name, value in state.items() if not name.endswith(COUNTERS)}
        own = self.state_dict()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing and (prefix := common_prefix(list(state), list(own))):
            raise KeyError(
                f'the names of the state begin with "{prefix}": take that off, '
                f'{{name.removeprefix("{prefix}"): value for name, value in state.items()}}'
            )
        if missing and unknown:
            raise KeyError(
                f"the state has no {_some(missing)}, but {_some(unknown)}; it is of another model"
            )
        if missing:
            raise KeyError(f"the state has no {_some(missing)}; it is of another model")
        if unknown:
            raise KeyError(f"the model has no {_some(unknown)}; the state is of another model")
        weights = self.weights
        with quiet():  # what is too large for this precision becomes infinite, and is told
            arrays = {
                name: xp.asarray(to_device(value), dtype=weights.flat.dtype)
                for name, value in state.items()
            }
        for name, array in arrays.items():
            if array.shape != own[name].shape:
                raise ValueError(f"{name} has shape {array.shape}, the model's {own[name].shape}")
            if not xp.all(xp.isfinite(array)):
                raise ValueError(
                    f"{name} holds values that are not finite, or too large for "
                    f"{weights.flat.dtype}"
                )
        for name, at in zip(weights.names, weights.slices):
            weights.flat[at] = xp.reshape(arrays[name], (-1,))
        for prefix, module in self.modules().items():
            for name in module.buffers:
                key = f"{prefix}.{name}" if prefix else name
                setattr(module, name, xp.asarray(arrays[key], dtype=weights.flat.dtype, copy=True))


def common_prefix(names: list[str], own: list[str]) -> str:
    """What stands before every one of a model's own names, in a list of names; or nothing.

    >>> common_prefix(["module.0.weight", "module.0.bias"], ["0.weight", "0.bias"])
    'module.'
    """
    found = set(names)
    first = own[0]
    for name in names:
        prefix = name.removesuffix(first)
        if name.endswith("." + first) and found >= {prefix + other for other in own}:
            return prefix
    return ""


def _some(names: list[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


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
    if current_pass().model is not None:
        whole = type(current_pass().model).__name__
        raise RuntimeError(
            f"this {type(module).__name__} was no part of the {whole} when that was built, so it "
            f"would never be trained; assign it in __init__, or build the {whole} again"
        )


def _guarded(out: Tensor, weights: Weights) -> Tensor:
    """``out``, through which backward is an error if the flat weights have changed by then."""
    before = weights.flat.copy()

    def vjp(g: Array) -> Array:
        if not xp.all((before == weights.flat) | (before != before)):  # nan is not equal to nan
            raise GraphError(
                "backward: the weights were changed in place after the forward pass, so the "
                "gradient would belong to neither; call backward before the optimizer's step"
            )
        return g

    return Tensor.over(out._data, Node((out.node,), (vjp,), "guard"))
