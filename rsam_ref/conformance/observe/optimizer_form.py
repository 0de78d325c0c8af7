"""A PyTorch optimizer, stepped as its users step it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection
from typing import Any

import torch

from rsam_ref.conformance.ascent.case import group_rhos
from rsam_ref.conformance.observe import ways
from rsam_ref.conformance.observe.construct import construct
from rsam_ref.conformance.observe.names import ALIASES, BASES, SETTINGS, setting_of
from rsam_ref.conformance.observe.observer import NotSavedError, Step
from rsam_ref.conformance.observe.outside import Outside
from rsam_ref.conformance.observe.places import Found, Place, places, write
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.observe.torch_base import find_base, hints_of
from rsam_ref.conformance.observe.torch_forms import Net, TorchSubject, group_of
from rsam_ref.conformance.observe.ways import Way

CHANGED = ("rho", "sigma", "lam")
"""Settings that are changed between steps, besides lr."""


class OptimizerSubject(TorchSubject):
    """An optimizer, made and driven.

    Parameters
    ----------
    make:
        Its class, or a factory.
    asked:
        The settings that the algorithm has; no other is passed or written.
    found:
        What was found by trying; None: what the names say.
    way:
        How it is driven; None: the first way that it has.
    parts:
        Into how many parts each pass divides the mini-batch.
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
        way: Way | None = None,
        asked: Collection[str] = SETTINGS,
        found: Found | None = None,
        parts: int = 1,
        outside: Outside | None = None,
    ) -> None:
        super().__init__(problem, dtype, net)
        self.outside = outside or Outside(make)
        self.kept = self.outside.fresh()
        self.make, self.grouped, self.parts = make, grouped, parts
        self.asked, self.found = asked, found or Found()
        self.options: dict[str, Any] = {
            "adaptive": adaptive,
            "dtype": dtype,
            "parts": parts,
            "asked": asked,
            "found": found,
            "outside": self.outside,
        }
        with self.outside.holding(self.kept):
            self.made = construct(
                make,
                self._params(hyper),
                hyper,
                self.net,
                adaptive=adaptive,
                grouped=bool(grouped),
                asked=asked,
                renamed=self.found.renamed,
                numbers=self.found.numbers,
            )
        self.optimizer = self.made.optimizer
        self.base_seen = find_base(self.optimizer, self.judged)
        self._given_way = way
        self.places = self._places()

    @property
    def by(self) -> str:
        return self.made.by

    @property
    def guesses(self) -> dict[str, float]:
        """What it was made with for want of anything better."""
        return self.made.guesses

    @property
    def taken(self) -> frozenset[str]:
        """What its maker takes by name."""
        return self.made.taken

    @property
    def way(self) -> Way:
        if self._given_way is None:
            rsam = "sigma" in self.asked
            self._given_way = next(
                iter([*ways.halves(self.optimizer, rsam), *ways.closures(self.optimizer)]),
                ways.CLOSURE,
            )
        return self._given_way

    def _places(self) -> dict[str, list[Place]]:
        """Where each setting can be changed from outside, by what was found or by the names."""
        if self.found.places is not None:
            return {setting: list(own) for setting, own in self.found.places.items()}
        by_name: dict[str, list[Place]] = {}
        for place, _ in places(self.optimizer, self.groups):
            setting = setting_of(place.name)
            if setting in CHANGED and setting in self.asked:
                by_name.setdefault(setting, []).append(place)
        return by_name

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that it can be given in no way."""
        return tuple(
            setting
            for setting in self.made.not_passed
            if setting in self.asked and not self.settable(setting)
        )

    def held(self, setting: str) -> float | None:
        """What its groups or attributes say that a setting is."""
        for owner in (*self.groups[:1], getattr(self.optimizer, "__dict__", {})):
            for name in ALIASES[setting]:
                value = owner.get(name)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    return float(value)
        return None

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
        """The parameter groups that its users see; none where it has none."""
        return next(iter(self._all_groups()), [])

    def _all_groups(self) -> list[list[dict[str, Any]]]:
        """Its own groups, and those of the base that it holds."""
        held = getattr(self.optimizer, "__dict__", {})
        owners = [self.optimizer, *(held.get(name) for name in BASES)]
        owners.append(self.base_seen.optimizer if self.base_seen else None)
        found: list[list[dict[str, Any]]] = []
        for owner in owners:
            groups = getattr(owner, "param_groups", None)
            if groups and isinstance(groups, list) and all(groups is not other for other in found):
                found.append(groups)
        return found

    @property
    def _scheduled(self) -> list[dict[str, Any]]:
        """The groups whose lr a scheduler would change: the first that have one."""
        return next((g for g in self._all_groups() if any("lr" in group for group in g)), [])

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed from outside between steps."""
        if setting == "lr" and self._scheduled:
            return True
        return bool(self.places.get(setting))

    def _hints(self) -> dict[str, Any]:
        return hints_of(*self.groups[:1], self.optimizer, getattr(self.optimizer, "defaults", {}))

    def _set(self, hyper: Hyper) -> None:
        if isinstance(self.grouped, list):
            return  # each group has its own settings, from the start
        for group in self._scheduled:
            if "lr" in group:
                group["lr"] = hyper.lr
        for setting, own in self.places.items():
            for place in own:
                self.write(place, getattr(hyper, setting))
        if self.grouped:
            for group, rho in zip(self.groups, group_rhos(hyper)):
                if "rho" in group:
                    group["rho"] = float(rho)

    def write(self, place: Place, value: float) -> bool:
        """Set a number of its; in all groups, its own and its base's, where it is in groups."""
        every = [group for groups in self._all_groups() for group in groups]
        return write(self.optimizer, every, place, value)

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        with self.outside.holding(self.kept):
            self._step(number, hyper, seen)

    def _step(self, number: int, hyper: Hyper, seen: Step) -> None:
        self._begin(number)
        self._set(hyper)
        self._settings = self.base_seen.begin() if self.base_seen else []
        x, y = self._batch(number)

        def forward() -> torch.Tensor:
            return self._loss(self.net(x), y)

        def backward() -> torch.Tensor:
            total = torch.zeros((), dtype=self.dtype)
            for some_x, some_y in zip(x.chunk(self.parts), y.chunk(self.parts)):
                loss = self._loss(self.net(some_x), some_y) / self.parts
                loss.backward()
                total = total + loss.detach()
            return total

        way = self.way

        def closure(backwards: Any = True, *_: Any, **given: Any) -> torch.Tensor:
            """Takes what closures are called with: ``closure(backward=True)``."""
            wanted = bool(given.get("backward", given.get("do_backward", backwards)))
            with torch.set_grad_enabled(torch.is_grad_enabled() or way.with_grad):
                self.net.zero_grad()
                return backward() if wanted and way.name != "forward-closure" else forward()

        with self._watching(seen):
            for i, call in enumerate(way.calls):
                if call == "backward":
                    if way.name == "backward-first":
                        self.net.zero_grad()
                    backward()
                elif call == "closure":
                    seen.returned = self.optimizer.step(closure)
                else:
                    self._call(call, way.calls[i + 1 : i + 2] in ((), ("backward",)))
        self._end(seen)

    def _call(self, name: str, used: bool) -> None:
        """A part of a step. Where the gradients have been ``used``, they are set to zero."""
        method = ways.method(self.optimizer, name)
        if "zero_grad" in inspect.signature(method).parameters:
            method(zero_grad=True)
        else:
            method()
            if used:
                self.net.zero_grad()

    def resumed(self, hyper: Hyper) -> OptimizerSubject:
        with self.outside.holding(self.kept):
            state = saved(state_keeper(self.optimizer))
        other = OptimizerSubject(self.make, self.problem, hyper, way=self.way, **self.options)
        with torch.no_grad():
            for p, q in zip(other.judged, self.judged):
                p.copy_(q)
        with other.outside.holding(other.kept):
            state_keeper(other.optimizer).load_state_dict(state)
        return other


def state_keeper(optimizer: Any) -> Any:
    """Whose state_dict its users save: its own, or where it has none that of its base."""
    owners = (optimizer, *(getattr(optimizer, name, None) for name in BASES))
    return next((owner for owner in owners if hasattr(owner, "state_dict")), optimizer)


def saved(keeper: Any) -> Any:
    """A copy of its state_dict, as a file would hold it."""
    if not hasattr(keeper, "state_dict"):
        raise NotSavedError(f"{type(keeper).__name__} has no state_dict to save")
    state = keeper.state_dict()
    try:
        return copy.deepcopy(state)
    except Exception as error:
        raise NotSavedError(f"its state_dict cannot be copied: {error}") from None
