"""A PyTorch training step: a function of the model, an optimizer, a loss and a mini-batch.

Its arguments may come in any order and under the usual names, inputs and targets apart, settings
by name or together; the optimizer may be its own.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch

from rsam_ref.conformance.observe.accelerated import accelerated
from rsam_ref.conformance.observe.arguments import (
    Assignment,
    asked_alone,
    assignments,
    called,
    config_of,
    parameters_of,
    takes_more,
    takes_rest,
)
from rsam_ref.conformance.observe.made_inside import Kept, change, kept_in, objects_in
from rsam_ref.conformance.observe.names import BASE_SETTINGS, SETTINGS
from rsam_ref.conformance.observe.observer import BrokenError, NotSavedError, Step
from rsam_ref.conformance.observe.optimizer_form import saved, state_keeper
from rsam_ref.conformance.observe.outside import Outside
from rsam_ref.conformance.observe.own_optimizer import OwnOptimizer, OwnWay, made_of, own_ways
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.observe.torch_base import given_base
from rsam_ref.conformance.observe.torch_forms import Net, TorchSubject

CHANGED = ("rho", "sigma", "lam", "lr")
"""The settings that a run changes from step to step."""

USUAL = "train_step(model, optimizer, loss_fn, batch, hyper)"


class LoopSubject(TorchSubject):
    """A training step, with SGD for its optimizer, or one of a class of its own.

    ``way`` says what its parameters are, and the class; ``workers``, that several processes take
    part; ``fixed`` are the settings that its optimizer only follows where it is made.
    """

    form = "loop"

    def __init__(
        self,
        train_step: Callable[..., Any],
        problem: Problem,
        hyper: Hyper,
        *,
        dtype: str = "float64",
        net: Net | None = None,
        way: Assignment | OwnWay | None = None,
        algorithm: str = "",
        asked: Collection[str] = SETTINGS,
        fixed: Collection[str] = (),
        outside: Outside | None = None,
        workers: Any = None,
    ) -> None:
        super().__init__(problem, dtype, net)
        self.train_step = train_step
        self.outside = outside or Outside(train_step)
        self.kept = self.outside.fresh()
        self.workers = workers
        self.dtype_name = dtype
        self.ways = ways_of(train_step, algorithm)
        self.way = self.ways[0] if way is None else way
        self.algorithm, self.asked, self.fixed = algorithm, asked, fixed
        chosen = self.way.assignment if isinstance(self.way, OwnWay) else self.way
        self.assignment = asked_alone(train_step, chosen, asked)
        self.own: OwnOptimizer | None = None
        self.optimizer: Any = torch.optim.SGD(
            self.net.parameters(),
            lr=hyper.lr,
            momentum=hyper.momentum,
            weight_decay=hyper.weight_decay,
        )
        self.given_optimizer = "optimizer" in self.assignment.values()
        if isinstance(self.way, OwnWay):
            made_by, adaptive = self.way.optimizer_class, algorithm == "asam"
            own = made_of(made_by, self.net, self.judged, hyper, asked, adaptive=adaptive)
            self.own, self.optimizer, self.base_seen = own, own.optimizer, own.base
        elif self.given_optimizer:
            self.base_seen = given_base(self.optimizer, self.judged)
        self.state: Any = {}
        self.kept_inside: list[Kept] = []
        self.first_of_model = {id(value) for value in vars(self.net).values()}
        self.loader: Any = None
        """What it is given for a loader; where there is none, one of this step's mini-batch."""
        self.scaler = torch.amp.GradScaler("cpu")
        self.accelerator, self.model, self.prepared = None, self.net, self.optimizer
        if "accelerator" in self.assignment.values():
            made = accelerated(self.net, self.optimizer)
            self.accelerator, self.model, self.prepared = made
        elif workers:
            self.model = workers.model(self.net)
        problem.own_loss = "loss" not in self.assignment.values()

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that it does not take."""
        roles = set(self.assignment.values())
        if "hyper" in roles or takes_more(self.train_step):
            return ()
        if self.own is not None:
            return tuple(s for s in self.own.not_passed if s not in roles)
        given = roles | (set(BASE_SETTINGS) if self.given_optimizer else set())
        return tuple(setting for setting in SETTINGS if setting not in given)

    @property
    def by(self) -> str:
        return getattr(self.train_step, "__name__", "train_step")

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed between steps."""
        return setting not in (*self.missing, *self.fixed)

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        self._begin(number)
        if self.own is None:
            for group in self.optimizer.param_groups:
                group["lr"] = hyper.lr
        else:
            change(self.own.kept, hyper)
        change(self.kept_inside, hyper)
        self._settings = self.base_seen.begin() if self.base_seen else []
        with self._watching(seen), self.outside.holding(self.kept):
            seen.returned = self._call(number, hyper)
            self.kept_inside = self._settings_kept(hyper)
        self._end(seen)

    def _settings_kept(self, hyper: Hyper) -> list[Kept]:
        """Where what the step made, and keeps for the next one, has its settings: optimizers that
        stepped, and objects on the model, in the state, outside of the function.
        """
        own = [v for v in vars(self.net).values() if id(v) not in self.first_of_model]
        kept = [*own, self.state, *(slot.read() for slot in self.outside.slots)]
        made = [o for o in (*self.stepped, *objects_in(kept)) if o is not self.optimizer]
        return kept_in(made, hyper, [s for s in CHANGED if s in self.asked])

    def _call(self, number: int, hyper: Hyper) -> Any:
        batch = self._batch(number)
        if self.workers:
            batch = self.workers.part(batch[0]), self.workers.part(batch[1])
        values: dict[str, Any] = {
            "model": self.model,
            "optimizer": self.prepared,
            "loss": self._loss,
            "batch": batch,
            "inputs": batch[0],
            "targets": batch[1],
            "loader": [batch] if self.loader is None else self.loader,
            "device": "cpu",
            "number": number,
            "state": self.state,
            "scaler": self.scaler,
            "accelerator": self.accelerator,
            **vars(hyper),
        }
        taken = parameters_of(self.train_step)
        for name, role in self.assignment.items():
            if role == "hyper":
                values["hyper"] = config_of(taken[name], self.train_step, hyper)
        more = {}
        roles = set(self.assignment.values())
        if takes_more(self.train_step) and "hyper" not in roles:
            more = {s: getattr(hyper, s) for s in SETTINGS if s not in roles}
        rest = () if {"batch", "inputs", "loader"} & roles else batch
        rest = rest if takes_rest(self.train_step) else ()
        return called(self.train_step, self.assignment, values, rest, more)

    @property
    def takes_loader(self) -> bool:
        return "loader" in self.assignment.values()

    def give_loader(self, count: int) -> None:
        """From now on it is given a loader of the first ``count`` mini-batches."""
        self.loader = Shuffling(self._batch(number) for number in range(count))

    def resumed(self, hyper: Hyper) -> LoopSubject:
        if not self.given_optimizer:
            raise NotSavedError("its optimizer is its own, and nothing of it can be saved")
        other = LoopSubject(
            self.train_step,
            self.problem,
            hyper,
            dtype=self.dtype_name,
            way=self.way,
            algorithm=self.algorithm,
            asked=self.asked,
            fixed=self.fixed,
            outside=self.outside,
            workers=self.workers,
        )
        other.net.load_state_dict(self.net.state_dict())
        state_keeper(other.optimizer).load_state_dict(saved(state_keeper(self.optimizer)))
        other.state = copy.deepcopy(self.state)
        other.scaler.load_state_dict(self.scaler.state_dict())
        return other


class Shuffling(list[tuple[torch.Tensor, torch.Tensor]]):
    """Mini-batches that come in another order whenever the loader is begun, as in training."""

    begun = -1

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.begun += 1
        at = self.begun % len(self)
        return iter([self[(at + i) % len(self)] for i in range(len(self))])


def ways_of(train_step: Callable[..., Any], algorithm: str) -> list[Assignment | OwnWay]:
    """The ways to call it, the likeliest first."""
    try:
        found = [a for a in assignments(train_step) if "model" in a.values()]
    except (TypeError, ValueError):
        found = []
    if found:
        told, own = own_ways(train_step, found, algorithm)
        return [*told, *found, *own]
    try:
        taken = f"({', '.join(inspect.signature(train_step).parameters)})"
    except (TypeError, ValueError):
        taken = "unknown arguments"
    raise BrokenError(
        f"a training step is called as {USUAL}, its arguments in any order; what to give for "
        f"{taken} could not be told"
    )
