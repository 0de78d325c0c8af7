"""What the PyTorch forms have in common: the network, and what is seen of it.

The forms are an optimizer class or a factory (optimizer_form.py), and a function that owns the
training loop (loop_form.py). The weights are seen whenever the network is run, or a copy of it, or
the network with other weights by torch.func.functional_call; the run counts once a backward pass
goes through it. How the weights came to be where they are is the implementation's affair.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from rsam_ref.conformance.observe import torch_base
from rsam_ref.conformance.observe.base import Settings
from rsam_ref.conformance.observe.mixed_precision import (
    autocast_watched,
    lowered_to,
    runs_with_others,
    scalers_watched,
)
from rsam_ref.conformance.observe.observer import MOST_EVALUATIONS, BrokenError, Evaluation, Step
from rsam_ref.conformance.observe.problem import CHANNELS, CLASSES, Problem
from rsam_ref.conformance.observe.samples import samples_of
from rsam_ref.conformance.observe.torch_base import TorchBase, given_base


class Net(nn.Module):
    """The problem's network. ``watch`` is told of every run with gradients on, and by which module:
    a copy of this one keeps it.

    Parameters
    ----------
    extra_in:
        A further parameter of the outputs takes part in the passes of these numbers, from 0.
    """

    def __init__(self, *, extra_in: tuple[int, ...] | None = None) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(CHANNELS, 6, 3)]
        layers += [nn.Tanh(), nn.Flatten(), nn.Linear(96, 24), nn.Tanh()]
        layers += [nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh()]
        layers.append(nn.Linear(24, CLASSES))
        self.layers = nn.Sequential(*layers)
        self.extra_in = extra_in
        self.passes = 0
        self._names: list[str] = []
        if extra_in is not None:
            self.extra = nn.Parameter(torch.linspace(-1, 1, CLASSES))
        self.watch: Callable[[Net, torch.Tensor, torch.Tensor], None] = lambda net, x, out: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layers(x)
        if self.extra_in is not None:
            if self.passes in self.extra_in:
                out = out + self.extra
            self.passes += 1
        if torch.is_grad_enabled() and out.requires_grad:
            self.watch(self, x, out)
        return out

    def judged(self) -> list[torch.Tensor]:
        """The weights that it runs with, in the problem's order: within functional_call the given
        ones, under a parametrization what that makes, or what has been put in their place.
        """
        if not self._names:
            self._names = [name for name, _ in self.named_parameters() if name != "extra"]
        return [self._weight(name) for name in self._names]

    def _weight(self, name: str) -> torch.Tensor:
        path, _, last = name.rpartition(".")
        found = getattr(self.get_submodule(path), last, None)
        if not isinstance(found, torch.Tensor):
            raise BrokenError(
                f"the model's {name} was taken away, and nothing is in its place: where a pass is "
                "run with other weights, set them by that name, or use torch.func.functional_call"
            )
        return found


@functools.cache
def _without_hooks() -> Net:
    """A network of the same kind, whatever has been done to the others."""
    with torch.random.fork_rng(devices=[]):
        return Net()


@dataclass
class _Run:
    """A run of the network with gradients on. ``used``: a backward pass went through it."""

    weights: list[torch.Tensor]
    x: torch.Tensor
    out: torch.Tensor
    node: Any
    place: int
    """At the how manieth place of the step it is, from 0."""
    lowered_to: str | None
    used: bool = False
    other_weights: bool = False
    """Whether it did not run with the weights that the network has."""


class TorchSubject:
    """A network at the problem's weights, and what is seen of it."""

    form = ""

    def __init__(self, problem: Problem, dtype: str = "float64", net: Net | None = None) -> None:
        self.problem = problem
        self.dtype = getattr(torch, dtype)
        self.net = (net or Net()).to(self.dtype)
        self.judged = self.net.judged()
        self.number = 0
        self.runs: list[_Run] = []
        self.unseen = False
        self.lowered = False
        """Whether torch.autocast does what it is for, instead of only being seen."""
        self.overflow_in: int | None = None
        """At which place of a step the gradient is infinite, from 0."""
        self.base_seen: TorchBase | None = None
        self.stepped: list[Any] = []
        """The optimizers that have stepped on the weights."""
        self._settings: Settings = []
        # A function, not a method: copy.deepcopy of the network then does not copy this object.
        self.net.watch = lambda net, x, out: self._ran(net, x, out)
        if len(self.judged) == len(problem.shapes):
            with torch.no_grad():
                for p, part in zip(self.judged, problem.parts(problem.start)):
                    p.copy_(torch.from_numpy(part.copy()))

    def weights(self) -> np.ndarray:
        return flat(self.net.judged())

    def _ran(self, net: Net, x: torch.Tensor, out: torch.Tensor) -> None:
        """Remember a run. It is read when the step is over: within torch.func it cannot be."""
        if len(self.runs) >= MOST_EVALUATIONS:
            raise BrokenError(
                f"step {self.number + 1} ran the network more than {MOST_EVALUATIONS} times"
            )
        weights = [p.detach().clone() for p in net.judged()]
        place = self._place(weights) if self.overflow_in is not None else 0
        given, got = x.detach().clone(), out.detach().clone()
        run = _Run(weights, given, got, out.grad_fn, place, lowered_to())
        run.other_weights = self.lowered and runs_with_others(net, x, out)
        self.runs.append(run)

        def use(gradient: torch.Tensor) -> torch.Tensor | None:
            run.used = True
            overflows = self.overflow_in == run.place
            return torch.full_like(gradient, torch.inf) if overflows else None

        out.register_hook(use)

    def _place(self, weights: list[torch.Tensor]) -> int:
        """At the how manieth place of the step these weights are."""
        for run in self.runs:
            if all(torch.equal(p, q) for p, q in zip(run.weights, weights)):
                return run.place
        return max((run.place for run in self.runs), default=-1) + 1

    def _begin(self, number: int) -> None:
        self.number, self.runs, self.unseen = number, [], False
        self.net.passes = 0

    def _end(self, seen: Step) -> None:
        """Add the runs that a backward pass went through, in the order of the runs."""
        seen.base = torch_base.seen(self.base_seen, self._settings, self._hints())
        step = f"in step {self.number + 1}"
        if self.unseen:
            raise BrokenError(
                f"{step} a loss was differentiated whose outputs did not come from the model: its "
                "weights there cannot be seen. Run model(x), copy.deepcopy(model)(x) or "
                "torch.func.functional_call(model, weights, (x,)), not its layers"
            )
        for run in self.runs:
            if not run.used:
                continue
            try:
                weights, x = flat(run.weights), run.x.to(torch.float64).numpy()
            except RuntimeError as error:
                raise BrokenError(
                    f"{step} the model's weights or inputs cannot be read, as under torch.vmap; "
                    f"take the gradient of the whole mini-batch ({str(error).splitlines()[0]})"
                ) from None
            if weights.shape != self.weights().shape:
                raise BrokenError(
                    f"{step} the model was run with {weights.size} weights; it has "
                    f"{self.weights().size}"
                )
            if not self.lowered and type(self.net) is Net and not self._explains(run):
                raise BrokenError(
                    f"{step} the model's outputs are not those of the weights that it had when its "
                    "forward pass was over: what a hook changes only while a layer runs, or a "
                    "parametrization draws anew, cannot be followed; let the model have the other "
                    "weights for the whole pass"
                )
            seen.evaluations.append(
                Evaluation(weights, *samples_of(self.problem, x, self.number), run.lowered_to)
            )

    def _explains(self, run: _Run) -> bool:
        """Whether the weights that were seen give the outputs of a run, as a network of the same
        kind without hooks computes them.
        """
        within = {torch.float64: 1e-6, torch.float32: 1e-3}.get(run.out.dtype)
        if within is None or self.net.extra_in is not None or not run.out.isfinite().all():
            return True
        plain = _without_hooks()
        weights = dict(zip(dict(plain.named_parameters()), run.weights))
        with torch.no_grad():
            apart = (torch.func.functional_call(plain, weights, (run.x,)) - run.out).abs().max()
        return bool(apart <= within * (1 + run.out.abs().max()))

    @contextmanager
    def _watching(self, seen: Step) -> Iterator[None]:
        """Around a step."""
        with (
            self._looking_for_a_base(),
            scalers_watched(seen),
            autocast_watched(off=not self.lowered),
        ):
            yield

    @contextmanager
    def _looking_for_a_base(self) -> Iterator[None]:
        """Inside, a torch optimizer that steps on the weights is taken for the base."""
        own = {id(p) for p in self.judged}

        def look(optimizer: Any, *_: Any) -> None:
            if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
                return
            if all(optimizer is not other for other in self.stepped):
                self.stepped.append(optimizer)
            if self.base_seen is None and _is_torchs_own(optimizer):
                self.base_seen = given_base(optimizer, self.judged)
                self._settings = self.base_seen.begin() if self.base_seen else []

        hook = register_optimizer_step_pre_hook(look)
        try:
            yield
        finally:
            hook.remove()

    def _hints(self) -> dict[str, Any]:
        """Numbers that the implementation holds by name."""
        return {}

    def _batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.problem.batch(number)
        return torch.from_numpy(x).to(self.dtype), torch.from_numpy(y)

    def _loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        scale = self.problem.scale_at(self.number)
        loss = scale * nn.functional.cross_entropy(output, target)
        if torch.is_grad_enabled() and loss.requires_grad and not self._comes_from_a_run(loss):
            loss.register_hook(self._differentiates_unseen)
        return loss

    def _comes_from_a_run(self, loss: torch.Tensor) -> bool:
        """Whether its graph holds the outputs of a run that was seen."""
        nodes = [run.node for run in self.runs]
        ahead, known = [loss.grad_fn], set()
        while ahead:
            node = ahead.pop()
            if node is None or node in known:
                continue
            if any(node is other for other in nodes):
                return True
            known.add(node)
            ahead += [other for other, _ in node.next_functions]
        return False

    def _differentiates_unseen(self, _: torch.Tensor) -> None:
        self.unseen = True


def _is_torchs_own(optimizer: Any) -> bool:
    return type(optimizer).__module__.startswith("torch.optim.")


def flat(parts: list[Any]) -> np.ndarray:
    """Tensors as one vector of float64 (P,), a copy."""
    arrays = [p.detach().to(torch.float64).reshape(-1).numpy() for p in parts]
    return np.concatenate(arrays).copy()


def group_of(problem: Problem) -> np.ndarray:
    """Each weight's group (P,), 0 or 1: the tensors by turns of two."""
    return np.repeat([i // 2 % 2 for i in range(len(problem.slices))], problem.sizes)
