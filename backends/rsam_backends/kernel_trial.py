"""What a backend's kernels must get right before they are used: an op's value, and its derivative.

A kernel runs in place of a definition, so a wrong one makes wrong models without an error. Each is
tried once on a few numbers. The value it has to give is written here for NumPy, in float64; the
gradient it has to give follows from that by differences, so no derivative is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from rsam_backends.base import Backend, BackendError, one_line

TOLERANCE = 1e-3
"""Of numbers about 1: float32 keeps far below it, what is wrong is far above."""

STEP = 1e-6
"""Of the differences, in float64."""


class Example(NamedTuple):
    """An op on a few numbers: its value, the shapes of its inputs, further inputs, options."""

    value: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    constants: tuple[Any, ...] = ()
    """Inputs behind the others that have no gradient."""
    options: Mapping[str, Any] = {}


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _normalised(x: np.ndarray, axes: tuple[int, ...], eps: float) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def _conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, padding: int) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    return np.einsum("ncijkl,ockl->noij", windows, weight) + bias[:, None, None]


def _batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float, **_: Any
) -> np.ndarray:
    return _normalised(x, (0, 2, 3), eps) * gamma[:, None, None] + beta[:, None, None]


def _group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float
) -> np.ndarray:
    rows = _normalised(x.reshape(len(x), groups, -1), (2,), eps)
    return rows.reshape(x.shape) * gamma[:, None, None] + beta[:, None, None]


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _softmax(q @ k.mT / q.shape[-1] ** 0.5) @ v


def _gelu(x: np.ndarray, approximate: bool) -> np.ndarray:
    return x * 0.5 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def _sgd(w: Any, gradient: Any, velocity: Any, **of: Any) -> tuple[Any, Any]:
    g = gradient + of["weight_decay"] * w
    velocity = of["momentum"] * velocity + (1 - of["dampening"]) * g
    return w - of["lr"] * (g + of["momentum"] * velocity), velocity


def _numbers(shape: tuple[int, ...], phase: float = 0.0) -> np.ndarray:
    """Numbers between -2 and 2, no two of them equal, none near 0."""
    found = 2 * np.sin(1.7 * np.arange(1, np.prod(shape, dtype=int) + 1) + phase)
    return (found + 0.05 * np.sign(found)).reshape(shape).astype("float32")


IMAGES = 2, 2, 4, 4
NORM = IMAGES, (2,), (2,)
LABELS = np.array([0, 2, 1])
SGD = {"lr": 0.5, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.1, "nesterov": True}
FILTERS = [(2, 3), (4,)]
STATISTICS = {
    "mean": _numbers(IMAGES).mean((0, 2, 3)),
    "var": _numbers(IMAGES).var((0, 2, 3)),
    "eps": 1e-2,
}

EXAMPLES = {
    "_add_relu": Example(lambda x, y: np.maximum(x + y, 0), ((3, 2), (3, 2))),
    "_batch_norm_relu": Example(
        lambda *a, **o: np.maximum(_batch_norm(*a, **o), 0), NORM, (), STATISTICS
    ),
    "absolute": Example(np.abs, ((7,),)),
    "add": Example(np.add, ((3, 2), (2,))),
    "avg_pool2d": Example(
        lambda x, window: x.reshape(2, 2, 2, 2, 2, 2).mean((3, 5)), (IMAGES,), (), {"window": 2}
    ),
    "batch_norm": Example(_batch_norm, NORM, (), STATISTICS),
    "conv2d": Example(_conv2d, (IMAGES, (3, 2, 3, 3), (3,)), (), {"padding": 1}),
    "cross_entropy": Example(
        lambda x, y: -np.log(_softmax(x))[np.arange(3), y].mean(), ((3, 4),), (LABELS,)
    ),
    "div": Example(np.divide, ((3, 2), (2,))),
    "exp": Example(np.exp, ((7,),)),
    "gelu": Example(_gelu, ((7,),), (), {"approximate": True}),
    "global_avg_pool2d": Example(lambda x: x.mean((2, 3)), (IMAGES,)),
    "group_norm": Example(_group_norm, NORM, (), {"groups": 2, "eps": 1e-2}),
    "layer_norm": Example(
        lambda x, gamma, beta, eps: _normalised(x, (1,), eps) * gamma + beta,
        ((3, 4), (4,), (4,)),
        (),
        {"eps": 1e-2},
    ),
    "linear": Example(lambda x, w, b: x @ w.T + b, ((3, 4), (2, 4), (2,))),
    "log_softmax": Example(lambda x: np.log(_softmax(x)), ((3, 4),)),
    "matmul": Example(np.matmul, ((3, 4), (4, 2))),
    "max_pool2d": Example(
        lambda x, window: x.reshape(2, 2, 2, 2, 2, 2).max((3, 5)), (IMAGES,), (), {"window": 2}
    ),
    "maximum": Example(np.maximum, ((3, 2), (2,))),
    "minimum": Example(np.minimum, ((3, 2), (2,))),
    "mul": Example(np.multiply, ((3, 2), (2,))),
    "neg": Example(np.negative, ((7,),)),
    "relu": Example(lambda x: np.maximum(x, 0), ((7,),)),
    "scaled_dot_product_attention": Example(_attention, ((2, 3, 4), (2, 5, 4), (2, 5, 3))),
    "self_attention": Example(lambda qkv: _attention(*qkv), ((3, 2, 3, 4),)),
    "sigmoid": Example(lambda x: 1 / (1 + np.exp(-x)), ((7,),)),
    "softmax": Example(_softmax, ((3, 4),)),
    "sub": Example(np.subtract, ((3, 2), (2,))),
    "tanh": Example(np.tanh, ((7,),)),
}
"""Of ops, by their names: what a kernel of such a name is held to."""

PLAIN = {
    "batch_statistics": Example(lambda x: (x.mean((0, 2, 3)), x.var((0, 2, 3))), (IMAGES,)),
    "filter_scale": Example(
        lambda w, shapes: np.concatenate(
            [np.repeat(np.linalg.norm(w[:6].reshape(2, 3), axis=1), 3), [np.linalg.norm(w[6:])] * 4]
        ),
        ((10,),),
        (),
        {"shapes": FILTERS},
    ),
    "sgd_update": Example(_sgd, ((7,), (7,), (7,)), (), SGD),
}
"""Of functions on arrays, which have no gradient."""


def trial_of_kernels(backend: Backend) -> tuple[list[str], list[str]]:
    """The names of the kernels that are right, and of those that nothing here tries.

    A kernel that leaves its example to the definition is in neither list. `BackendError` names a
    kernel that is wrong.
    """
    right, untried = [], []
    for name, kernel in sorted(backend.kernels.items()):
        if kernel is None:
            continue
        example = EXAMPLES.get(name) or PLAIN.get(name)
        if example is None:
            untried.append(name)
            continue
        try:
            with np.errstate(all="ignore"):
                fault = _fault(backend, kernel, example, is_op=name in EXAMPLES)
        except Exception as error:  # another package's kernel may fail in any way
            fault = f"nothing comes ({type(error).__name__}: {one_line(error)})"
        if fault is None:
            continue
        if fault:
            raise BackendError(
                f"the {backend.name} backend's kernel {name} is wrong: {fault}; "
                "backends/README.md says what a kernel has to give"
            )
        right.append(name)
    return right, untried


def _fault(
    backend: Backend, kernel: Callable[..., Any], example: Example, is_op: bool
) -> str | None:
    """What a kernel does wrong: nothing is "", None is that it leaves the work to others."""
    inputs = [_numbers(shape, phase) for phase, shape in enumerate(example.shapes)]
    arrays = [backend.to_device(x.copy()) for x in (*inputs, *example.constants)]
    options = {
        name: backend.to_device(value) if isinstance(value, np.ndarray) else value
        for name, value in example.options.items()
    }
    found = kernel(*arrays, **options)
    if found is NotImplemented:
        return None
    wide = [x.astype("float64") for x in inputs]

    def value(*xs: np.ndarray) -> Any:
        return example.value(*xs, *example.constants, **example.options)

    if not is_op:
        if example.value is _sgd:  # w changes in place
            found = arrays[0], found
        return "" if _near(backend, found, value(*wide)) else "its value is another"
    if not _near(backend, found[0], value(*wide)):
        return "its value is not the definition's"
    g = _numbers(np.shape(value(*wide)), 0.5)
    vjps, sent = found[1], backend.to_device(g)
    gradients = vjps(sent) if callable(vjps) else [vjp and vjp(sent) for vjp in vjps]
    for i, x in enumerate(wide):
        along = _numbers(x.shape, 0.3).astype("float64")
        ends = (value(*wide[:i], x + h * along, *wide[i + 1 :]) for h in (STEP, -STEP))
        slope = np.sum(g * np.subtract(*ends)) / (2 * STEP)
        gradient = backend.to_host(gradients[i])
        if gradient.shape != x.shape or not _close(np.sum(gradient * along), slope):
            return f"its gradient at input {i + 1} is not the definition's"
    return ""


def _near(backend: Backend, found: Any, expected: Any) -> bool:
    if isinstance(expected, tuple):
        return all(map(lambda a, b: _near(backend, a, b), found, expected))
    ours = backend.to_host(found)
    return np.shape(ours) == np.shape(expected) and _close(ours, expected)


def _close(found: Any, expected: Any) -> bool:
    return bool(np.all(np.abs(found - expected) <= TOLERANCE * (1 + np.abs(expected))))
