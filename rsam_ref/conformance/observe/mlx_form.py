"""A training step in MLX, or a class of optimizers for it, driven on a small `mlx.nn.Module`.

    def train_step(model, optimizer, loss_fn, x, y): ...

``loss_fn(model, x, y)`` is what `mlx.nn.value_and_grad` takes. A class is made by the names of what
it takes, a base optimizer and settings, and driven by a method that takes the model and a batch, or
by halves, ``first_step(model, gradients)`` and ``second_step(model, gradients)``. MLX computes in
float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx import optimizers
from mlx.utils import tree_map

from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.arguments import (
    ROLES,
    Assignment,
    asked_alone,
    assignments,
    called,
    config_of,
    parameters_of,
    role_of,
    takes_rest,
)
from rsam_ref.conformance.observe.layouts import CHANNELS_LAST
from rsam_ref.conformance.observe.names import BASE_SETTINGS, SETTINGS, setting_of
from rsam_ref.conformance.observe.observer import (
    MOST_EVALUATIONS,
    BrokenError,
    Evaluation,
    NotSavedError,
    Step,
)
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.observe.samples import samples_of

MLX_ROLES = {**ROLES, "key": names.KEYS, "gradient": names.GRADIENTS}
ORDER = ("model", "optimizer", "loss", "batch", "hyper")
STEPS = ("step", "train_step", "update", "__call__")
HALVES = (
    ("first_step", "second_step"),
    ("ascent_step", "descent_step"),
    ("perturb", "update"),
    ("perturb", "step"),
)


class Part(nn.Module):
    """The weight and the bias of a layer."""

    def __init__(self, weight: Any, bias: Any) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias


class Net(nn.Module):
    """The problem's network, computed by the problem: MLX is told outputs and gradients."""

    def __init__(self, parts: list[Any], outputs: Any, gradients: Any) -> None:
        super().__init__()
        self.layers = [Part(weight, bias) for weight, bias in zip(parts[::2], parts[1::2])]

        def forward(x: Any, *weights: Any) -> Any:
            return mx.array(outputs([*map(_plain, weights)], _plain(x)), weights[0].dtype)

        def backward(primals: Any, seed: Any, _: Any) -> Any:
            x, *weights = primals
            found = gradients([*map(_plain, weights)], _plain(x), _plain(seed))
            moved = (mx.array(g, w.dtype) for g, w in zip(found, weights))
            return (mx.zeros_like(x), *moved)

        self._through = mx.custom_function(forward)
        self._through.vjp(backward)

    def __call__(self, x: Any) -> Any:
        return self._through(x, *self.judged())

    def judged(self) -> list[Any]:
        """The weights, in the problem's order."""
        return [w for part in self.layers for w in (part.weight, part.bias)]


class MlxSubject:
    """A training step or an optimizer, driven."""

    form = "mlx"

    def __init__(
        self,
        subject: Any,
        problem: Problem,
        hyper: Hyper,
        *,
        way: int | None = None,
        dtype: str = "float64",
        asked: Collection[str] = SETTINGS,
    ) -> None:
        self.subject, self.problem, self.asked = subject, problem, asked
        self.dtype = getattr(mx, "float32" if dtype == "float64" else dtype)
        self.number = 0
        self.seen: list[Evaluation] = []
        self.state: Any = {}
        parts = [CHANNELS_LAST.of(part) for part in problem.parts(problem.start)]
        made = [mx.array(part.astype(np.float32)).astype(self.dtype) for part in parts]
        self.net = Net(made, self._outputs, self._gradients)
        self.optimizer = optimizers.SGD(hyper.lr, hyper.momentum, hyper.weight_decay)
        self.owner: Any = None
        self.making: Assignment = {}
        if inspect.isclass(subject) or not _takes_data(subject):
            self.making = asked_alone(subject, _assignment(subject), asked)
            self.owner = called(subject, self.making, self._values(hyper, subject, self.making))
        self.halves = next((pair for pair in HALVES if self._takes_gradients(*pair)), None)
        self.ways = [0]
        self.assignment: Assignment = {}
        if self.halves is None:
            self.function = self._method() if self.making else subject
            calls = list(assignments(self.function, MLX_ROLES, ORDER))
            self.ways = list(range(len(calls)))
            self.assignment = asked_alone(self.function, calls[way or 0], asked)
        problem.own_loss = not {"loss", "gradient"} & self._roles and self.halves is None

    def _takes_gradients(self, *methods: str) -> bool:
        found = [getattr(self.owner, name, None) for name in methods]
        return all(callable(m) and not _takes_data(m) for m in found)

    def _method(self) -> Callable[..., Any]:
        if callable(self.owner) and _takes_data(self.owner):
            return self.owner
        for name in STEPS:
            method = getattr(self.owner, name, None)
            if callable(method) and _takes_data(method):
                return method
        raise BrokenError(
            f"{self.by} has no step that takes a model and a batch, and no first_step and "
            "second_step that take a model and gradients"
        )

    @property
    def _roles(self) -> set[str]:
        return {*self.assignment.values(), *self.making.values()}

    @property
    def by(self) -> str:
        return getattr(self.subject, "__name__", "this step")

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that it does not take."""
        if "hyper" in self._roles:
            return ()
        given = self._roles | (set(BASE_SETTINGS) if "optimizer" in self._roles else set())
        return tuple(setting for setting in SETTINGS if setting not in given)

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed between steps."""
        if "optimizer" in self._roles and setting == "lr":
            return True
        now = self.assignment.values()
        return setting in now or "hyper" in now or setting in self._numbers()

    def _numbers(self) -> dict[str, str]:
        """The attributes of an object that are settings, by setting."""
        held = getattr(self.owner, "__dict__", {})
        own = [n for n, v in held.items() if isinstance(v, float) and n != "learning_rate"]
        return {s: n for n in own if (s := setting_of(n)) in ("rho", "sigma", "lam")}

    def weights(self) -> np.ndarray:
        return self._flat([*map(_plain, self.net.judged())])

    # A step

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        self.number, self.seen = number, seen.evaluations
        if "optimizer" in self._roles:
            self.optimizer.learning_rate = hyper.lr
        for setting, name in self._numbers().items():
            setattr(self.owner, name, getattr(hyper, setting))
        x, y = self.problem.batch(number)
        batch = mx.array(x.astype(np.float32)).astype(self.dtype), mx.array(y.astype(np.int32))
        if self.halves is not None:
            for name in self.halves:
                _, gradients = self._differentiated(self.net, *batch)
                getattr(self.owner, name)(self.net, gradients)
        else:
            values = self._values(hyper, self.function, self.assignment)
            values |= {"batch": batch, "inputs": batch[0], "targets": batch[1], "number": number}
            rest = batch if takes_rest(self.function) else ()
            if {"batch", "inputs", "loader"} & set(self.assignment.values()):
                rest = ()
            seen.returned = self._called(values, rest)
        mx.eval(self.net.parameters(), self.optimizer.state)
        if not seen.evaluations:
            raise BrokenError(
                f"step {number + 1} took no gradient through the model that it was given: the "
                "check sees gradients of that one only"
            )

    def _called(self, values: dict[str, Any], rest: Any) -> Any:
        try:
            return called(self.function, self.assignment, values, rest)
        except ValueError as error:
            if "function transformations" not in str(error):
                raise
            raise BrokenError(
                f"step {self.number + 1} ran the model within mx.compile or mx.vmap, where its "
                "weights cannot be seen; take that off for the check"
            ) from None

    def _values(self, hyper: Hyper, function: Any, assignment: Assignment) -> dict[str, Any]:
        """What each role is, for a call of a function."""
        values: dict[str, Any] = {
            **vars(hyper),
            "model": self.net,
            "optimizer": self.optimizer,
            "loss": self._loss,
            "gradient": self._differentiated,
            "state": self.state,
            "key": mx.random.key(self.number),
        }
        taken = parameters_of(function)
        for name, role in assignment.items():
            if role == "hyper":
                values["hyper"] = config_of(taken[name], function, hyper)
        return values

    def _differentiated(self, model: Any, *batch: Any) -> Any:
        """The loss and the gradients: of (model, x, y), or of (x, y)."""
        if isinstance(model, mx.array):
            model, batch = self.net, (model, *batch)
        return nn.value_and_grad(model, self._loss)(model, *batch)

    def _loss(self, model: Any, *batch: Any) -> Any:
        x, y = batch[0] if len(batch) == 1 else batch[:2]
        loss = nn.losses.cross_entropy(model(x), y, reduction="mean")
        return self.problem.scale_at(self.number) * loss

    # What is seen

    def _outputs(self, weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
        return self.problem.outputs(self._flat(weights), x)

    def _gradients(self, weights: list[Any], x: np.ndarray, seed: np.ndarray) -> list[np.ndarray]:
        if len(self.seen) >= MOST_EVALUATIONS:
            raise BrokenError(f"step {self.number + 1} took more than {MOST_EVALUATIONS} gradients")
        w = self._flat(weights)
        self.seen.append(Evaluation(w, *samples_of(self.problem, x, self.number)))
        gradient = self.problem.outputs_vjp(w, x, seed)
        return [CHANNELS_LAST.of(part) for part in self.problem.parts(gradient)]

    def _flat(self, weights: list[np.ndarray]) -> np.ndarray:
        return self.problem.flat([CHANNELS_LAST.back(w) for w in weights])

    def resumed(self, hyper: Hyper) -> MlxSubject:
        """Another, with copies of the weights and of the optimizer's state."""
        keeper = self.optimizer if "optimizer" in self._roles else self.owner
        if not isinstance(getattr(keeper, "state", None), dict):
            raise NotSavedError("it has no state that could be saved")
        other = MlxSubject(self.subject, self.problem, hyper, asked=self.asked)
        other.net.update(tree_map(mx.array, self.net.parameters()))
        to = other.optimizer if "optimizer" in self._roles else other.owner
        to.state = tree_map(lambda leaf: mx.array(leaf), keeper.state)
        return other


def _assignment(made: Any) -> Assignment:
    """What each parameter of a class or factory is for."""
    found: Assignment = {}
    for name, parameter in parameters_of(made).items():
        role = role_of(parameter, MLX_ROLES)
        if role is not None and role not in found.values():
            found[name] = role
    return found


def _takes_data(function: Any) -> bool:
    try:
        roles = {role_of(p, MLX_ROLES) for p in parameters_of(function).values()}
    except (TypeError, ValueError):
        return False
    return bool(roles & {"batch", "inputs", "loader"}) or takes_rest(function)


def _plain(array: Any) -> np.ndarray:
    """As NumPy has it, in float64."""
    return np.array(array.astype(mx.float32), dtype=float)
