"""A network in which things can go wrong, and what is seen of it: modes, statistics, masks.

The main run's network has neither batch norm nor dropout, so nothing tells there in which mode a
pass is run. This one has both, besides layer norm, a convolution behind another layer, and one
weight that two layers share. It remembers of every run what is needed to take its gradient again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from rsam_ref.conformance.observe.base import BaseSeen
from rsam_ref.conformance.observe.observer import Step
from rsam_ref.conformance.observe.problem import CHANNELS, CLASSES, Hyper, Problem
from rsam_ref.conformance.observe.torch_forms import Net

RATE = 0.1
"""Batch norm's momentum: PyTorch's default."""

DROPPED = 0.3


class ModesNet(Net):
    """Images (N, 2, 6, 6) to (N, 5), about 560 weights."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        del self.layers
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Conv2d(CHANNELS, 4, 3)
            self.norm = nn.BatchNorm2d(4, momentum=RATE)
            self.second = nn.Conv2d(4, 4, 3)
            self.layer_norm = nn.LayerNorm(16)
            self.one = nn.Linear(16, 16)
            self.drop = nn.Dropout(DROPPED)
            self.other = nn.Linear(16, 16)
            self.last = nn.Linear(16, CLASSES)
            self.other.weight = self.one.weight  # shared
            with torch.no_grad():
                for p in (*self.norm.parameters(), *self.layer_norm.parameters()):
                    p.add_(0.3 * torch.randn(p.shape))
        self.look: Callable[[Look, torch.Tensor], None] = lambda look, out: None
        self.masked_by: torch.Tensor | None = None
        """A mask of dropout to use in place of a new one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        training = {"batch norm": self.norm.training, "dropout": self.drop.training}
        look = Look(x.detach().clone(), h.detach().mean((0, 2, 3)), training)
        h = torch.tanh(self.second(torch.tanh(self.norm(h))))
        h = torch.tanh(self.one(self.layer_norm(h.flatten(1)))) + 1.5  # nowhere 0
        if self.masked_by is None:
            h = self.drop(h)
            look.mask = (h != 0).detach()
        else:
            h = h * self.masked_by / (1 - DROPPED)
        out = self.last(torch.tanh(self.other(h)))
        look.weights = [p.detach().clone() for p in self.judged()]
        self.look(look, out)
        if torch.is_grad_enabled() and out.requires_grad:
            self.watch(self, x, out)
        return out


@dataclass
class Look:
    """A run of the network, with its ``weights``. ``training``: the modes of its layers."""

    x: torch.Tensor
    mean: torch.Tensor
    """Of batch norm's input, by channel: what its running mean moves by."""
    training: dict[str, bool]
    weights: list[torch.Tensor] = field(default_factory=list)
    mask: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    used: bool = False
    """Whether a backward pass went through it."""
    rows: list[int] = field(default_factory=list)
    generator_set: int = 0
    """How often the state of torch's generator had been set before."""
    at: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def in_eval(self) -> list[str]:
        return [layer for layer, training in self.training.items() if not training]


@dataclass
class Pass:
    """Runs at one place, each on rows of its own: one evaluation of the gradient."""

    looks: list[Look]

    @property
    def at(self) -> np.ndarray:
        return self.looks[0].at

    @property
    def in_eval(self) -> list[str]:
        return sorted({layer for look in self.looks for layer in look.in_eval})

    def mask_of(self, row: int) -> torch.Tensor | None:
        """The mask that a row of the mini-batch had."""
        for look in self.looks:
            if row in look.rows:
                return look.mask[look.rows.index(row)]
        return None


@dataclass
class Seen:
    """What was seen of one step."""

    number: int
    hyper: Hyper
    w: np.ndarray
    after: np.ndarray
    base: BaseSeen
    passes: list[Pass]
    looks: list[Look]
    mean_before: np.ndarray
    mean_after: np.ndarray
    begins_in_eval: bool
    ends_in_eval: list[str]
    momentum_before: Any
    momentum_after: Any


class Modes:
    """A subject on this network, driven; and the gradients of its passes, taken again."""

    def __init__(self, maker: Any, seed: int, hyper: Hyper) -> None:
        self.problem = Problem(seed)
        self.net = ModesNet(seed).double()
        self.twin = ModesNet(seed).double()
        self.names = [name for name, _ in self.net.named_parameters()]
        self.sizes = [p.numel() for p in self.net.judged()]
        self.subject = maker(self.problem, hyper, net=self.net)
        self.looks: list[Look] = []
        self.generator_set = 0
        self.net.look = lambda look, out: self._looked(look, out)

    def _looked(self, look: Look, out: torch.Tensor) -> None:
        look.generator_set = self.generator_set
        self.looks.append(look)

        def use(_: torch.Tensor) -> None:
            look.used = True

        if out.requires_grad:
            out.register_hook(use)

    def step(self, number: int, hyper: Hyper) -> Seen:
        self.looks = []
        norm = self.net.norm
        assert norm.running_mean is not None
        before, momentum = norm.running_mean.numpy().copy(), norm.momentum
        in_eval = not (norm.training and self.net.drop.training)
        step = Step(number, hyper, self.subject.weights())
        with self._generator_watched():
            self.subject.step(number, hyper, step)
        step.after = self.subject.weights()
        for look in self.looks:
            look.at = np.concatenate([p.double().reshape(-1).numpy() for p in look.weights])
            look.rows = self._rows(look.x.double().numpy(), number)
        layers = {"batch norm": self.net.norm, "dropout": self.net.drop}
        return Seen(
            number,
            hyper,
            step.before,
            step.after,
            step.base,
            _passes([look for look in self.looks if look.used]),
            self.looks,
            before,
            self.net.norm.running_mean.numpy().copy(),  # type: ignore[union-attr]
            in_eval,
            [name for name, layer in layers.items() if not layer.training],
            momentum,
            norm.momentum,
        )

    @contextmanager
    def _generator_watched(self) -> Iterator[None]:
        """Counts how often the state of torch's global generator is set."""
        own = torch.random.set_rng_state

        def count(new_state: torch.Tensor) -> None:
            self.generator_set += 1
            own(new_state)

        torch.random.set_rng_state = torch.set_rng_state = count
        try:
            yield
        finally:
            torch.random.set_rng_state = torch.set_rng_state = own

    def _rows(self, x: np.ndarray, number: int) -> list[int]:
        """Which rows of the step's mini-batch these inputs are; those of another are left out."""
        whole = self.problem.batch(number)[0]
        if x.shape[1:] != whole.shape[1:]:
            return []
        apart = np.abs(x[:, None] - whole[None]).reshape(len(x), len(whole), -1).max(axis=2)
        return [int(row.argmin()) for row in apart if row.min() < 1e-2]

    def gradient(self, a: Pass, number: int) -> np.ndarray:
        """The gradient (P,) of a pass: of the mean loss over its rows, with its masks."""
        y = torch.from_numpy(self.problem.batch(number)[1])
        total = np.zeros(sum(self.sizes))
        rows = sum(len(look.rows) for look in a.looks)
        for look in a.looks:
            self.twin.zero_grad()
            with torch.no_grad():
                for p, q in zip(self.twin.judged(), look.weights):
                    p.copy_(q)
            self.twin.masked_by = look.mask.double()
            with torch.enable_grad():
                loss = nn.functional.cross_entropy(self.twin(look.x.double()), y[look.rows])
                loss.backward()
            parts = [p.grad.reshape(-1).numpy() for p in self.twin.judged()]  # type: ignore[union-attr]
            total += np.concatenate(parts) * (len(look.rows) / rows)
        return self.problem.scale_at(number) * total

    def per_tensor(self) -> Iterator[tuple[str, slice]]:
        """Each tensor's name and place in the flat vector."""
        start = 0
        for name, size in zip(self.names, self.sizes):
            yield name, slice(start, start + size)
            start += size


def _passes(looks: list[Look]) -> list[Pass]:
    """Neighbours at one place, on different rows, are one pass."""
    found: list[Pass] = []
    for look in looks:
        old = found[-1] if found else None
        if (
            old is not None
            and np.array_equal(old.at, look.at)
            and not set(look.rows) & {row for other in old.looks for row in other.rows}
        ):
            old.looks.append(look)
        else:
            found.append(Pass([look]))
    return found
