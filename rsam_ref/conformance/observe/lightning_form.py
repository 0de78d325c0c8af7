"""A LightningModule with its own training_step, driven as Lightning's Trainer drives it.

Its network is exchanged for the problem's: it is given to the constructor, or put in the place of
what the module holds. The optimizers are its own, behind the wrappers that Lightning puts around
them; only the loop over mini-batches, the logging and the devices are left out.
"""

from __future__ import annotations

import copy
import importlib
import logging
from collections.abc import Collection, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch

from rsam_ref.conformance.observe.arguments import (
    config_of,
    is_required,
    parameters_of,
    role_of,
)
from rsam_ref.conformance.observe.made_inside import Kept, change, kept_in
from rsam_ref.conformance.observe.names import SETTINGS, setting_of
from rsam_ref.conformance.observe.observer import BrokenError, Step
from rsam_ref.conformance.observe.outside import Outside
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.observe.torch_forms import Net, TorchSubject


class LightningSubject(TorchSubject):
    """A module of a class, with a trainer that runs nothing.

    ``fixed`` are the settings that it only follows where it is made.
    """

    form = "lightning"

    def __init__(
        self,
        make: Any,
        problem: Problem,
        hyper: Hyper,
        *,
        dtype: str = "float64",
        net: Net | None = None,
        asked: Collection[str] = SETTINGS,
        fixed: Collection[str] = (),
        outside: Outside | None = None,
    ) -> None:
        super().__init__(problem, dtype, net)
        self.outside = outside or Outside(make)
        self.kept = self.outside.fresh()
        self.make, self.asked, self.dtype_name = make, asked, dtype
        self.fixed = fixed
        self.last = hyper
        self.passed: set[str] = set()
        problem.own_loss = True
        with self.outside.holding(self.kept):
            self.module = self._made(hyper)
            if all(part is not self.net for part in self.module.modules()):
                exchange_network(self.module, self.net)
            self.module.to(self.dtype)
            self.trainer = trainer_of(self.module)
        self.optimizers = self.trainer.strategy.optimizers

    @property
    def by(self) -> str:
        return str(self.make.__name__)

    def _made(self, hyper: Hyper) -> Any:
        given: dict[str, Any] = {}
        for name, parameter in parameters_of(self.make).items():
            role = role_of(parameter)
            if role == "model":
                given[name] = self.net
            elif role == "loss":
                given[name] = self._loss
                self.problem.own_loss = False
            elif role in SETTINGS or role == "eta":
                if role in self.asked or role == "eta" or is_required(parameter):
                    given[name] = getattr(hyper, role)
                    self.passed.add(role)
            elif role == "hyper" and is_required(parameter):
                given[name] = config_of(parameter, self.make, hyper)
                self.passed |= set(SETTINGS)
            elif is_required(parameter):
                raise BrokenError(
                    f"{self.by} needs {name!r}, which this check does not know; give it a default, "
                    "or derive a class from it whose constructor takes settings and a model alone"
                )
        return self.make(**given)

    def _owners(self) -> Iterator[MutableMapping[str, Any]]:
        """Where settings are kept: attributes, hparams, parameter groups."""
        yield vars(self.module)
        yield self.module.hparams
        for optimizer in self.optimizers:
            yield from optimizer.param_groups

    def _places(self, setting: str) -> list[tuple[MutableMapping[str, Any], str]]:
        return [
            (owner, name)
            for owner in self._owners()
            for name, value in list(owner.items())
            if setting_of(str(name)) == setting
            and isinstance(value, int | float)
            and not isinstance(value, bool)
        ]

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that it can be given in no way."""
        left = [s for s in SETTINGS if s in self.asked and s not in self.passed]
        return tuple(s for s in left if not self._places(s))

    def held(self, setting: str) -> float | None:
        """What its attributes or groups say that a setting is."""
        found = self._places(setting)
        return float(found[0][0][found[0][1]]) if found else None

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed between steps."""
        found = self._places(setting) or self._in_optimizers([setting])
        return bool(found) and setting not in self.fixed

    def _in_optimizers(self, settings: Collection[str]) -> list[Kept]:
        """Where its optimizers keep settings, as they last were."""
        return kept_in(self.optimizers, self.last, settings)

    def _set(self, hyper: Hyper) -> None:
        change(self._in_optimizers(self.asked), hyper)
        self.last = hyper
        for setting in SETTINGS:
            if setting in self.asked:
                for owner, name in self._places(setting):
                    owner[name] = getattr(hyper, setting)

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        with self.outside.holding(self.kept):
            self._step(number, hyper, seen)

    def _step(self, number: int, hyper: Hyper, seen: Step) -> None:
        self._begin(number)
        self._set(hyper)
        self._settings = self.base_seen.begin() if self.base_seen else []
        with self._watching(seen):
            if self.module.automatic_optimization:
                self._automatic(number, seen)
            else:
                seen.returned = self._training_step(number)
        self._end(seen)

    def _training_step(self, number: int) -> Any:
        given = {"batch": self._batch(number), "batch_idx": number}
        taken = parameters_of(self.module.training_step)
        values = [given["batch"], given["batch_idx"]][: len(taken)]
        return self.module.training_step(*values)

    def _automatic(self, number: int, seen: Step) -> None:
        """Lightning's own way: the optimizer's step gets a closure."""
        optimizer = self.module.optimizers()
        if isinstance(optimizer, list):
            raise BrokenError(
                f"{self.by} has several optimizers, which Lightning takes with "
                "automatic_optimization = False only"
            )

        def closure() -> Any:
            seen.returned = returned = self._training_step(number)
            loss = returned["loss"] if isinstance(returned, dict) else returned
            optimizer.zero_grad()
            loss.backward()
            return loss

        self.module.optimizer_step(0, number, optimizer, closure)

    def resumed(self, hyper: Hyper) -> LightningSubject:
        other = LightningSubject(
            self.make,
            self.problem,
            hyper,
            dtype=self.dtype_name,
            asked=self.asked,
            fixed=self.fixed,
            outside=self.outside,
        )
        other.net.load_state_dict(self.net.state_dict())
        for optimizer, own in zip(other.optimizers, self.optimizers):
            optimizer.load_state_dict(copy.deepcopy(own.state_dict()))
        return other


def exchange_network(module: Any, net: Net) -> None:
    """Put the problem's network in the place of all that has weights in a module."""
    children = [name for name, child in module.named_children() if list(child.parameters())]
    for name in children:
        delattr(module, name)
    for name in [name for name, _ in module.named_parameters(recurse=False)]:
        delattr(module, name)
    setattr(module, children[0] if len(children) == 1 else "net", net)
    if getattr(type(module), "forward", None) is not torch.nn.Module.forward:
        vars(module)["forward"] = lambda x, *_, **__: net(x)


def trainer_of(module: Any) -> Any:
    """A trainer that a module can ask for its optimizers; what it logs goes nowhere."""
    kind = next(c for c in type(module).__mro__ if c.__name__ == "LightningModule")
    lightning = importlib.import_module(kind.__module__.split(".core")[0])
    with _quiet(lightning.__name__):
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.strategy._lightning_module = module
        module.trainer = trainer
        trainer.strategy.setup_optimizers(trainer)
    vars(module)["log"] = vars(module)["log_dict"] = lambda *_, **__: None
    return trainer


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Inside, the logger of this name tells errors only."""
    loggers = [logging.getLogger(other) for other in (name, f"{name}.utilities.rank_zero")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
