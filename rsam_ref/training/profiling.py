"""Where the time of a training step goes: op by op, forward and backward, and what is left.

The tape looks every op up among the kernels that are in force. `intercepted` replaces them by the
same ops, kernel or definition, with something wrapped around each. So measuring costs nothing where
nobody measures.
"""

from __future__ import annotations

import inspect
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from rsam_backends import Stream, current_backend, kernels_replaced, synchronize, to_device
from rsam_backends.base import Array, Backend, Kernel
from rsam_backends.switch import in_force
from rsam_ref import models
from rsam_ref.algorithms.optimizer import Optimizer
from rsam_ref.autograd import ops, ops_nn
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import objective

Label = tuple[str, str]
"""An op's name and its phase, "forward" or "backward"; or a part of the rest, and ""."""


TAPE = ("the tape and the layers", "")
NOISE = ("the noise", "")
OPTIMIZER = ("the optimizer", "")

Work = Callable[[], Any]


DEFINITIONS: dict[str, Kernel] = {
    name: function.__wrapped__
    for module in (ops, ops_nn)
    for name, function in vars(module).items()
    if inspect.isfunction(function)
    and hasattr(function, "__wrapped__")
    and function.__name__ == name
    and function.__module__ == module.__name__
}
"""What the ops, and the functions that a backend may replace, mean, by name."""


FUSED = {"_add_relu", "_batch_norm_relu"}
"""Ops that run in place of several others, where there is a kernel for them."""


@contextmanager
def intercepted(around: Callable[[Label, Work], Any]) -> Iterator[dict[str, str]]:
    """In this block and thread every op runs as ``around((name, phase), work)``.

    ``around`` has to return ``work()``. Yields which ran, by the op's name: "kernel" or
    "definition".
    """
    ran: dict[str, str] = {}
    kernels = in_force.kernels
    wrapped = {
        name: _wrapped(name, kernels.get(name), definition, around, ran)
        for name, definition in DEFINITIONS.items()
        if name not in FUSED or kernels.get(name)
    }
    with kernels_replaced(wrapped):
        yield ran


def _wrapped(
    name: str,
    kernel: Kernel | None,
    definition: Kernel,
    around: Callable[[Label, Work], Any],
    ran: dict[str, str],
) -> Kernel:
    """A kernel that runs the op as before, its forward and each of its vjps within ``around``."""

    def forward(arrays: Sequence[Any], options: dict[str, Any]) -> Any:
        if kernel is not None:
            result = kernel(*arrays, **options)
            if result is not NotImplemented:
                ran[name] = "kernel"
                return result
        ran[name] = "definition"
        return definition(*arrays, **options)

    def backward(vjp: Callable[[Array], Any]) -> Callable[[Array], Any]:
        return lambda g: around((name, "backward"), lambda: vjp(g))

    def call(*arrays: Any, **options: Any) -> Any:
        result = around((name, "forward"), lambda: forward(arrays, options))
        if not isinstance(result, tuple) or len(result) != 2:  # of a function that is no op
            return result
        value, vjps = result
        if type(vjps) is tuple:
            return value, tuple([vjp and backward(vjp) for vjp in vjps])
        return (value, backward(vjps)) if callable(vjps) else result

    return call


class Clock:
    """Time by label. Every moment counts for one label only, the innermost that is running."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.seconds: dict[Label, float] = defaultdict(float)
        self.calls: Counter[Label] = Counter()
        self._wait = wait
        self._running: list[Label] = []
        self._since = 0.0

    def __call__(self, label: Label, work: Work) -> Any:
        """What ``work()`` gives; its time counts for ``label``."""
        self._wait()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._running.append(label)
        self._since = now
        try:
            result = work()
            self._wait()
            return result
        finally:
            now = time.perf_counter()
            self.seconds[label] += now - self._since
            self.calls[label] += 1
            self._running.pop()
            self._since = now


@dataclass(frozen=True)
class Row:
    """What one op takes in one phase of a step; a backward call is one input's gradient."""

    name: str
    phase: str
    calls: float
    seconds: float
    by: str = ""
    """What ran: "kernel" or "definition"."""


@dataclass(frozen=True)
class Profile:
    """A step's time: the rows' seconds add up to ``measured``.

    All times are means over the faster half of the steps, so that a pause of the machine does not
    count.
    """

    rows: list[Row]
    measured: float
    """Seconds of a measured step."""
    unmeasured: float
    """Seconds of a step like it that nobody measured, taken in turn."""
    waits: bool
    """Whether each op waited for the device."""


def profile(
    model: Module,
    optimizer: Optimizer,
    x: Any,
    y: Any,
    *,
    steps: int = 20,
    on_step: Callable[[], None] | None = None,
) -> Profile:
    """Take 2 steps to warm up, then ``steps`` measured ones and as many unmeasured, in turn."""
    if steps < 1:
        raise ValueError(f"there must be at least 1 step, not {steps}")
    x, y = to_device(x), to_device(y)
    w = model.weights.flat
    waits = type(current_backend()).synchronize is not Backend.synchronize

    def plain() -> float:
        start = time.perf_counter()
        optimizer.step(objective(model, x, y), w)
        synchronize()
        return time.perf_counter() - start

    ran: dict[str, str] = {}
    clocks: list[Clock] = []
    times: list[float] = []
    for _ in range(2):
        plain()
    for _ in range(steps):
        times.append(plain())
        clock = Clock(synchronize if waits else _no_wait)
        with intercepted(clock) as this, _parts(optimizer, clock):
            clock(OPTIMIZER, partial(_step, model, optimizer, x, y, clock))
        ran |= this
        clocks.append(clock)
        if on_step is not None:
            on_step()

    clocks.sort(key=lambda clock: sum(clock.seconds.values()))
    kept = clocks[: (steps + 1) // 2]
    labels = dict.fromkeys(label for clock in kept for label in clock.seconds)
    rows = [
        Row(
            *label,
            statistics.fmean(clock.calls[label] for clock in kept),
            statistics.fmean(clock.seconds[label] for clock in kept),
            ran.get(label[0], ""),
        )
        for label in labels
    ]
    rows.sort(key=lambda row: (not row.phase, -row.seconds))
    return Profile(
        rows,
        measured=sum(row.seconds for row in rows),
        unmeasured=statistics.fmean(sorted(times)[: (steps + 1) // 2]),
        waits=waits,
    )


def _no_wait() -> None:
    pass


def _step(model: Module, optimizer: Optimizer, x: Array, y: Array, clock: Clock) -> None:
    batch = clock(TAPE, lambda: objective(model, x, y))
    optimizer.step(_Passes(batch, clock), model.weights.flat)


class _Passes:
    """An objective whose passes are timed."""

    def __init__(self, batch: Any, clock: Clock) -> None:
        self.batch, self.clock = batch, clock

    def __call__(self, w: Array) -> Any:
        return self.clock(TAPE, lambda: self.batch(w))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batch, name)


@contextmanager
def _parts(optimizer: Optimizer, clock: Clock) -> Iterator[None]:
    """The optimizer's draw is noise; the rest of it counts as the optimizer."""
    draw = getattr(optimizer, "draw", None)
    if draw is None:
        yield
        return
    vars(optimizer)["draw"] = lambda *inputs: clock(NOISE, lambda: draw(*inputs))
    try:
        yield
    finally:
        del vars(optimizer)["draw"]


def make(
    name: str, *, image_size: int | None, channels: int | None, classes: int, options: Any = None
) -> tuple[Module, tuple[int, int, int]]:
    """A model by name, and the shape (C, H, W) of its images.

    What is not given is as usual for the model: 1 x 28 x 28 for mlp and cnn, 3 x 32 x 32 for the
    networks of CIFAR and for one's own, 3 x 224 x 224 for those of ImageNet.
    """
    if name in ("mlp", "cnn"):
        usual = 1, 28
    elif name in ("resnet20", "resnet32", "resnet56", "wide_resnet", "wrn28_10") or ":" in name:
        usual = 3, 32
    else:
        usual = 3, 224
    for what, value in (("channels", channels), ("image size", image_size), ("classes", classes)):
        if value is not None and value < 1:
            raise ValueError(f"{what} must be at least 1, not {value}")
    side = image_size or usual[1]
    shape = channels or usual[0], side, side
    return models.make_model(name, shape=shape, classes=classes, **(options or {})), shape


def random_batch(size: int, shape: tuple[int, ...], classes: int) -> tuple[Array, Array]:
    """Noise for images (N, C, H, W), and labels (N,)."""
    if size < 1:
        raise ValueError(f"a mini-batch must hold at least 1 sample, not {size}")
    x = Stream("profile", 0).normal((size, *shape), "float32")
    return x, to_device([i % classes for i in range(size)], "int64")
