"""The PyTorch forms: an optimizer class (or a factory), and a function that owns the training loop.

The weights are seen whenever the network is run, or a copy of it, or the network with other weights
by torch.func.functional_call; the run counts once a backward pass goes through it. How the weights
came to be where they are is the implementation's affair.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from rsam_ref.conformance.ascent.case import group_rhos
from rsam_ref.conformance.observe import torch_base
from rsam_ref.conformance.observe.base import Settings
from rsam_ref.conformance.observe.construct import ALIASES, BASES, construct
from rsam_ref.conformance.observe.observer import (
    MOST_EVALUATIONS,
    BrokenError,
    Evaluation,
    NotSavedError,
    Step,
)
from rsam_ref.conformance.observe.problem import CHANNELS, CLASSES, Hyper, Problem
from rsam_ref.conformance.observe.torch_base import TorchBase, find_base, given_base, hints_of


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
        ones.
        """
        return [p for name, p in self.named_parameters() if name != "extra"]


@dataclass
class _Run:
    """A run of the network with gradients on. ``used``: a backward pass went through it."""

    weights: list[torch.Tensor]
    x: torch.Tensor
    node: Any
    used: bool = False


class _TorchSubject:
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
        self.base_seen: TorchBase | None = None
        self._settings: Settings = []
        # A function, not a method: copy.deepcopy of the network then does not copy this object.
        self.net.watch = lambda net, x, out: self._ran(net, x, out)
        if len(self.judged) == len(problem.shapes):
            with torch.no_grad():
                for p, part in zip(self.judged, problem.parts(problem.start)):
                    p.copy_(torch.from_numpy(part.copy()))

    def weights(self) -> np.ndarray:
        return _flat(self.judged)

    def _ran(self, net: Net, x: torch.Tensor, out: torch.Tensor) -> None:
        """Remember a run. It is read when the step is over: within torch.func it cannot be."""
        if len(self.runs) >= MOST_EVALUATIONS:
            raise BrokenError(
                f"step {self.number + 1} ran the network more than {MOST_EVALUATIONS} times"
            )
        weights = [p.detach().clone() for p in net.judged()]
        run = _Run(weights, x.detach().clone(), out.grad_fn)
        self.runs.append(run)

        def use(_: torch.Tensor) -> None:
            run.used = True

        out.register_hook(use)

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
                weights, x = _flat(run.weights), run.x.to(torch.float64).numpy()
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
            seen.evaluations.append(Evaluation(weights, *self._samples(x)))

    def _hints(self) -> dict[str, Any]:
        """Numbers that the implementation holds by name."""
        return {}

    def _samples(self, given: np.ndarray) -> tuple[int, frozenset[int] | None]:
        """Of which mini-batch these inputs are, and which of its rows."""
        for step in [self.number, *range(self.number + 2)]:
            whole = self.problem.batch(step)[0]
            if given.shape[1:] == whole.shape[1:]:
                rows = frozenset(
                    i for row in given for i, known in enumerate(whole) if _near(row, known)
                )
                if rows and len(rows) == len(given):
                    return step, None if len(rows) == len(whole) else rows
        raise BrokenError(
            f"in step {self.number + 1} the model was run on inputs of shape {given.shape} that "
            "belong to no mini-batch"
        )

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


def _flat(parts: list[Any]) -> np.ndarray:
    """Tensors as one vector of float64 (P,), a copy."""
    arrays = [p.detach().to(torch.float64).reshape(-1).numpy() for p in parts]
    return np.concatenate(arrays).copy()


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, atol=1e-2))


PAIRS = (("first_step", "second_step"), ("ascent_step", "descent_step"))


class OptimizerSubject(_TorchSubject):
    """A torch optimizer, stepped as its users step it.

    ``contract`` is "two-step" (first_step, second_step), "closure", or "backward-first"
    (step(closure) after a backward of its own).
    """

    form = "optimizer"

    def __init__(
        self,
        make: Any,
        problem: Problem,
        hyper: Hyper,
        *,
        adaptive: bool = False,
        dtype: str = "float64",
        net: Net | None = None,
        grouped: bool | list[dict[str, Any]] = False,
        contract: str | None = None,
        parts: int = 1,
    ) -> None:
        super().__init__(problem, dtype, net)
        self.make, self.adaptive, self.grouped, self.parts = make, adaptive, grouped, parts
        self.options: dict[str, Any] = {"adaptive": adaptive, "dtype": dtype, "parts": parts}
        self.made = construct(
            make, self._params(hyper), hyper, self.net, adaptive=adaptive, grouped=bool(grouped)
        )
        self.optimizer = self.made.optimizer
        self.base_seen = find_base(self.optimizer, self.judged)
        self.pair = next((pair for pair in PAIRS if hasattr(self.optimizer, pair[0])), None)
        self.contract = contract or ("two-step" if self.pair else "closure")

    @property
    def contracts(self) -> list[str]:
        """The ways in which it can be driven."""
        ways = ["two-step"] if self.pair else []
        if not self.pair or _steps_by_closure(self.optimizer):
            ways += ["closure", "backward-first"]
        return ways

    @property
    def own(self) -> dict[str, float]:
        """The base settings that it could not be given: those in its groups, or 0."""
        return {
            setting: self._found(setting)
            for setting in ("momentum", "weight_decay")
            if setting in self.made.not_passed
        }

    def _found(self, setting: str) -> float:
        for owner in (self.groups[0], getattr(self.optimizer, "__dict__", {})):
            for name in ALIASES[setting]:
                if isinstance(owner.get(name), int | float):
                    return float(owner[name])
        return 0.0

    def not_passed(self, settings: tuple[str, ...]) -> str:
        """Those of the settings that it could not be given, in words."""
        own = self.own
        missing = [
            f"{setting} (taken to be {own[setting]:g})" if setting in own else setting
            for setting in settings
            if setting in self.made.not_passed and (setting in own or not self.settable(setting))
        ]
        if not missing:
            return ""
        *others, last = missing
        names = f"{', '.join(others)} and {last}" if others else last
        return (
            f"{names} could not be passed to {self.made.by}, which may use its own; give a "
            "function make(params, hyper) that passes what hyper holds"
        )

    @property
    def base(self) -> str:
        """The torch optimizer that makes the base step, where that is not SGD; or ""."""
        for owner in (self.optimizer, *(getattr(self.optimizer, n, None) for n in BASES)):
            for made in type(owner).__mro__:
                if made.__module__.startswith("torch.optim.") and made.__name__ != "Optimizer":
                    return "" if made is torch.optim.SGD else made.__name__
        return ""

    def _params(self, hyper: Hyper) -> list[Any]:
        if not self.grouped:
            return list(self.net.parameters())
        members = self.members()
        if isinstance(self.grouped, list):
            return [{"params": ps, **own} for ps, own in zip(members, self.grouped)]
        rhos = group_rhos(hyper)
        return [{"params": ps, "rho": float(rho)} for ps, rho in zip(members, rhos)]

    def members(self) -> list[list[Any]]:
        """The parameters of each of two groups."""
        half = group_of(self.problem)
        found: list[list[Any]] = [[], []]
        for p, at in zip(self.judged, self.problem.slices):
            found[half[at.start]].append(p)
        return found

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups that a scheduler would change."""
        for owner in (self.optimizer, *(getattr(self.optimizer, n, None) for n in BASES)):
            if hasattr(owner, "param_groups"):
                return owner.param_groups
        raise BrokenError(
            f"{type(self.optimizer).__name__} has no param_groups, nor has what it holds as "
            f"{', '.join(BASES)}: the learning rate cannot be set"
        )

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed from outside between steps."""
        return any(
            name in group or isinstance(getattr(self.optimizer, name, None), float)
            for group in self.groups
            for name in ALIASES[setting]
        )

    def _hints(self) -> dict[str, Any]:
        return hints_of(*self.groups[:1], self.optimizer, getattr(self.optimizer, "defaults", {}))

    def _set(self, hyper: Hyper) -> None:
        if isinstance(self.grouped, list):
            return  # each group has its own settings, from the start
        for setting in ("rho", "sigma", "lam"):
            for name in ALIASES[setting]:
                if isinstance(getattr(self.optimizer, name, None), float):
                    setattr(self.optimizer, name, getattr(hyper, setting))
        for i, group in enumerate(self.groups):
            group["lr"] = hyper.lr
            for setting in ("rho", "sigma", "lam"):
                for name in ALIASES[setting]:
                    if name in group:
                        group[name] = getattr(hyper, setting)
            if self.grouped and "rho" in group:
                group["rho"] = float(group_rhos(hyper)[i])

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        self._begin(number)
        self._set(hyper)
        self._settings = self.base_seen.begin() if self.base_seen else []
        x, y = self._batch(number)
        optimizer = self.optimizer

        def backward() -> torch.Tensor:
            total = torch.zeros((), dtype=self.dtype)
            for some_x, some_y in zip(x.chunk(self.parts), y.chunk(self.parts)):
                loss = self._loss(self.net(some_x), some_y) / self.parts
                loss.backward()
                total = total + loss.detach()
            return total

        def closure() -> torch.Tensor:
            with torch.enable_grad():
                self.net.zero_grad()
                return backward()

        if self.contract == "two-step" and self.pair:
            backward()
            self._call(self.pair[0])
            backward()
            self._call(self.pair[1])
        else:
            if self.contract == "backward-first":
                self.net.zero_grad()
                backward()
            seen.returned = optimizer.step(closure)
        self._end(seen)

    def _call(self, name: str) -> None:
        """Half a step, and the gradients set to zero."""
        method = getattr(self.optimizer, name)
        if "zero_grad" in inspect.signature(method).parameters:
            method(zero_grad=True)
        else:
            method()
            self.net.zero_grad()

    def resumed(self, hyper: Hyper) -> OptimizerSubject:
        state = _saved(_state_keeper(self.optimizer))
        other = OptimizerSubject(
            self.make, self.problem, hyper, contract=self.contract, **self.options
        )
        with torch.no_grad():
            for p, q in zip(other.judged, self.judged):
                p.copy_(q)
        _state_keeper(other.optimizer).load_state_dict(state)
        return other


def _steps_by_closure(optimizer: Any) -> bool:
    """Whether it has a step(closure) of its own: not the one that comes from torch."""
    step = getattr(type(optimizer), "step", None)
    if step is None or step.__module__.startswith("torch."):
        return False
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    return any(p.kind not in named for p in inspect.signature(optimizer.step).parameters.values())


def _state_keeper(optimizer: Any) -> Any:
    """Whose state_dict its users save: its own, or where it has none that of its base."""
    owners = (optimizer, *(getattr(optimizer, name, None) for name in BASES))
    return next((owner for owner in owners if hasattr(owner, "state_dict")), optimizer)


def _saved(keeper: Any) -> Any:
    """A copy of its state_dict, as a file would hold it."""
    if not hasattr(keeper, "state_dict"):
        raise NotSavedError(f"{type(keeper).__name__} has no state_dict to save")
    state = keeper.state_dict()
    try:
        return copy.deepcopy(state)
    except Exception as error:
        raise NotSavedError(f"its state_dict cannot be copied: {error}") from None


def group_of(problem: Problem) -> np.ndarray:
    """Each weight's group (P,), 0 or 1: the tensors by turns of two."""
    return np.repeat([i // 2 % 2 for i in range(len(problem.slices))], problem.sizes)


class LoopSubject(_TorchSubject):
    """A function train_step(model, optimizer, loss_fn, batch, hyper), with SGD for optimizer."""

    form = "loop"

    def __init__(
        self,
        train_step: Callable[..., Any],
        problem: Problem,
        hyper: Hyper,
        *,
        dtype: str = "float64",
        net: Net | None = None,
    ) -> None:
        super().__init__(problem, dtype, net)
        self.train_step = train_step
        self.dtype_name = dtype
        self.optimizer = torch.optim.SGD(
            self.net.parameters(),
            lr=hyper.lr,
            momentum=hyper.momentum,
            weight_decay=hyper.weight_decay,
        )
        self.base_seen = given_base(self.optimizer, self.judged)
        self._arguments(hyper)

    def _arguments(self, hyper: Hyper) -> dict[str, Any]:
        """The settings in the form in which the function takes them."""
        taken = list(inspect.signature(self.train_step).parameters.values())[4:]
        if any(p.name == "hyper" for p in taken):
            return {"hyper": hyper}
        by_name = {
            name: getattr(hyper, key)
            for key, names in ALIASES.items()
            for name in names
            if any(p.name == name for p in taken)
        }
        unknown = [p.name for p in taken if p.name not in by_name and p.default is p.empty]
        if unknown and len(taken) == 1:
            return {unknown[0]: hyper}
        if unknown or not by_name:
            raise BrokenError(
                "train_step(model, optimizer, loss_fn, batch, ...) must take hyper, or rho (and "
                "sigma and lam) by name"
                + (f"; it takes {unknown[0]!r}, which this check does not know" if unknown else "")
            )
        return by_name

    def settable(self, setting: str) -> bool:
        return True

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        self._begin(number)
        for group in self.optimizer.param_groups:
            group["lr"] = hyper.lr
        self._settings = self.base_seen.begin() if self.base_seen else []
        batch = self._batch(number)
        seen.returned = self.train_step(
            self.net, self.optimizer, self._loss, batch, **self._arguments(hyper)
        )
        self._end(seen)

    def resumed(self, hyper: Hyper) -> LoopSubject:
        other = LoopSubject(self.train_step, self.problem, hyper, dtype=self.dtype_name)
        other.net.load_state_dict(self.net.state_dict())
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return other
