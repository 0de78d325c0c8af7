"""The PyTorch forms: an optimizer class (or a factory), and a function that owns the training loop.

The weights are seen whenever the network is run with gradients on; how they came to be where they
are is the implementation's affair.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from rsam_ref.conformance.observer import MOST_EVALUATIONS, BrokenError, Evaluation, Step
from rsam_ref.conformance.perturbation import group_rhos
from rsam_ref.conformance.problem import CHANNELS, CLASSES, Hyper, Problem


class Net(nn.Module):
    """The problem's network. ``watch`` is told of every run with gradients on.

    Parameters
    ----------
    normalised:
        Batch norm after the convolution.
    extra_in:
        A further parameter of the outputs takes part in the passes of these numbers, from 0.
    """

    def __init__(
        self, *, normalised: bool = False, extra_in: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(CHANNELS, 6, 3)]
        if normalised:
            layers.append(nn.BatchNorm2d(6))
        layers += [nn.Tanh(), nn.Flatten(), nn.Linear(96, 24), nn.Tanh()]
        layers += [nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh()]
        layers.append(nn.Linear(24, CLASSES))
        self.layers = nn.Sequential(*layers)
        self.extra_in = extra_in
        self.passes = 0
        if extra_in is not None:
            self.extra = nn.Parameter(torch.linspace(-1, 1, CLASSES))
        self.watch: Callable[[torch.Tensor], None] = lambda x: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.watch(x)
        out = self.layers(x)
        if self.extra_in is not None:
            if self.passes in self.extra_in:
                out = out + self.extra
            self.passes += 1
        return out


class _TorchSubject:
    """A network at the problem's weights, and what is seen of it."""

    form = ""

    def __init__(self, problem: Problem, dtype: str = "float64", net: Net | None = None) -> None:
        self.problem = problem
        self.dtype = getattr(torch, dtype)
        self.net = (net or Net()).to(self.dtype)
        named = dict(self.net.named_parameters())
        self.judged = [p for name, p in named.items() if name != "extra"]
        if len(self.judged) == len(problem.shapes):
            with torch.no_grad():
                for p, part in zip(self.judged, problem.parts(problem.start)):
                    p.copy_(torch.from_numpy(part.copy()))

    def weights(self) -> np.ndarray:
        return self._snapshot()

    def _snapshot(self) -> np.ndarray:
        parts = [p.detach().to(torch.float64).reshape(-1).numpy() for p in self.judged]
        return np.concatenate(parts).copy()

    def _watch(self, number: int, seen: Step) -> None:
        def watch(x: torch.Tensor) -> None:
            if len(seen.evaluations) >= MOST_EVALUATIONS:
                raise BrokenError(
                    f"step {number + 1} ran the network more than {MOST_EVALUATIONS} times"
                )
            seen.evaluations.append(Evaluation(self._snapshot(), *self._samples(x, number)))

        self.net.watch = watch
        self.net.passes = 0

    def _samples(self, x: torch.Tensor, number: int) -> tuple[int, frozenset[int] | None]:
        """Of which mini-batch these inputs are, and which of its rows."""
        given = x.detach().to(torch.float64).numpy()
        for step in [number, *range(number + 2)]:
            whole = self.problem.batch(step)[0]
            if given.shape[1:] == whole.shape[1:]:
                rows = frozenset(
                    i for row in given for i, known in enumerate(whole) if _near(row, known)
                )
                if rows and len(rows) == len(given):
                    return step, None if len(rows) == len(whole) else rows
        raise BrokenError(
            f"in step {number + 1} the model was run on inputs of shape {given.shape} that belong "
            "to no mini-batch"
        )

    def _batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.problem.batch(number)
        return torch.from_numpy(x).to(self.dtype), torch.from_numpy(y)

    def _loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.problem.scale * nn.functional.cross_entropy(output, target)


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, atol=1e-2))


ALIASES = {
    "sigma": ("sigma", "noise_std", "noise_scale", "std", "noise_sigma"),
    "lam": ("lam", "lambda_", "lamb", "lmbda", "lamda", "lambda_reg"),
    "rho": ("rho", "radius"),
    "eta": ("eta",),
    "lr": ("lr", "learning_rate"),
    "momentum": ("momentum",),
    "weight_decay": ("weight_decay",),
}
PAIRS = (("first_step", "second_step"), ("ascent_step", "descent_step"))
PARAMS = ("params", "parameters", "param_groups", "named_parameters")
BASES = ("base_optimizer", "base", "optimizer", "optim", "optimizer_cls", "optimizer_class")
MODELS = ("model", "net", "module")


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
        grouped: bool = False,
        contract: str | None = None,
        parts: int = 1,
    ) -> None:
        super().__init__(problem, dtype, net)
        self.make, self.adaptive, self.grouped, self.parts = make, adaptive, grouped, parts
        self.options: dict[str, Any] = {"adaptive": adaptive, "dtype": dtype, "parts": parts}
        self.optimizer = construct(make, self._params(hyper), hyper, self.net, adaptive)
        self.pair = next((pair for pair in PAIRS if hasattr(self.optimizer, pair[0])), None)
        self.contract = contract or ("two-step" if self.pair else "closure")

    def _params(self, hyper: Hyper) -> list[Any]:
        if not self.grouped:
            return list(self.net.parameters())
        half = group_of(self.problem)
        members: list[list[Any]] = [[], []]
        for p, at in zip(self.judged, self.problem.slices):
            members[half[at.start]].append(p)
        rhos = group_rhos(hyper)
        return [{"params": ps, "rho": float(rho)} for ps, rho in zip(members, rhos)]

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

    def _set(self, hyper: Hyper) -> None:
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
        self._watch(number, seen)
        self._set(hyper)
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
            optimizer.step(closure)

    def _call(self, name: str) -> None:
        """Half a step, and the gradients set to zero."""
        method = getattr(self.optimizer, name)
        if "zero_grad" in inspect.signature(method).parameters:
            method(zero_grad=True)
        else:
            method()
            self.net.zero_grad()

    def resumed(self, hyper: Hyper) -> OptimizerSubject:
        keeper = _state_keeper(self.optimizer)
        state = copy.deepcopy(keeper.state_dict())
        other = OptimizerSubject(
            self.make, self.problem, hyper, contract=self.contract, **self.options
        )
        with torch.no_grad():
            for p, q in zip(other.judged, self.judged):
                p.copy_(q)
        _state_keeper(other.optimizer).load_state_dict(state)
        return other


def _state_keeper(optimizer: Any) -> Any:
    """Whose state_dict its users save: its own, or where it has none that of its base."""
    owners = (optimizer, *(getattr(optimizer, name, None) for name in BASES))
    return next((owner for owner in owners if hasattr(owner, "state_dict")), optimizer)


def group_of(problem: Problem) -> np.ndarray:
    """Each weight's group (P,), 0 or 1: the tensors by turns of two."""
    return np.repeat([i // 2 % 2 for i in range(len(problem.slices))], problem.sizes)


def construct(make: Any, params: list[Any], hyper: Hyper, net: nn.Module, adaptive: bool) -> Any:
    """An optimizer, from its class by the names of its parameters, or from a factory."""
    values = {name: getattr(hyper, key) for key, names in ALIASES.items() for name in names}
    values["adaptive"] = adaptive
    signature = inspect.signature(make)
    whatever = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    taken = {name: p for name, p in signature.parameters.items() if p.kind not in whatever}
    takes_more = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    if not inspect.isclass(make):
        names = list(signature.parameters)
        return make(params, hyper) if len(names) > 1 else make(params)
    base_settings = {k: values[k] for k in ("lr", "momentum", "weight_decay")}
    has_base = any(name in taken for name in BASES)
    instance_first = any(name in taken for name in ("optimizer", "optim", "base"))
    failures = []
    for base_as_class in (not instance_first, instance_first):
        arguments: dict[str, Any] = {}
        base = torch.optim.SGD if base_as_class else torch.optim.SGD(params, **base_settings)
        unknown = []
        for name, parameter in taken.items():
            if name in PARAMS:
                arguments[name] = params
            elif name in BASES:
                arguments[name] = base
            elif name in MODELS:
                arguments[name] = net
            elif name in values:
                arguments[name] = values[name]
            elif parameter.default is parameter.empty:
                unknown.append(name)
        if unknown:
            raise BrokenError(
                f"{make.__name__} needs {unknown[0]!r}, which this check does not know; give a "
                "function make(params, hyper) that returns the optimizer"
            )
        if takes_more and (base_as_class or not has_base):
            arguments = {**base_settings, **arguments}
        try:
            return make(**arguments)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")
        if not has_base:
            break
    raise BrokenError(
        f"{make.__name__} could not be made ({failures[0]}); give a function make(params, hyper) "
        "that returns the optimizer"
    )


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
        self._watch(number, seen)
        for group in self.optimizer.param_groups:
            group["lr"] = hyper.lr
        batch = self._batch(number)
        self.train_step(self.net, self.optimizer, self._loss, batch, **self._arguments(hyper))

    def resumed(self, hyper: Hyper) -> LoopSubject:
        other = LoopSubject(self.train_step, self.problem, hyper, dtype=self.dtype_name)
        other.net.load_state_dict(self.net.state_dict())
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return other


def statistics_moves(train_step: Callable[..., Any], problem: Problem, hyper: Hyper) -> list[str]:
    """Which passes moved batch norm's running mean in one step: any of "first" and "second"."""
    subject = LoopSubject(train_step, problem, hyper, net=Net(normalised=True))
    norm = next(m for m in subject.net.modules() if isinstance(m, nn.BatchNorm2d))
    means: list[torch.Tensor] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            means.append(inputs[0].detach().mean(dim=(0, 2, 3)))

    norm.register_forward_hook(look)
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    subject.step(0, hyper, Step(0, hyper, subject.weights()))
    after = norm.running_mean
    outcomes: list[tuple[list[str], torch.Tensor]] = [([], before)]
    first, last = means[0], means[-1]

    def moved(mean: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        return 0.9 * mean + 0.1 * by

    outcomes.append((["first"], moved(before, first)))
    outcomes.append((["second"], moved(before, last)))
    outcomes.append((["first", "second"], moved(moved(before, first), last)))
    distances = [float((after - mean).norm()) for _, mean in outcomes]  # type: ignore[operator]
    best = min(range(len(outcomes)), key=lambda i: distances[i])
    scale = float((outcomes[1][1] - before).norm())
    return outcomes[best][0] if distances[best] < 1e-3 * scale else ["other"]
