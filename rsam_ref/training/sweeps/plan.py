"""The runs of a sweep: every combination of what is varied, or so many drawn, and every seed."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rsam_backends import Stream
from rsam_ref.loading import did_you_mean
from rsam_ref.training import recipe
from rsam_ref.training.given import whole
from rsam_ref.training.recipe import Recipe
from rsam_ref.training.summary import ASIDE
from rsam_ref.training.sweeps.names import folder_of, told, typed
from rsam_ref.training.sweeps.varied import Varied

POSED = ("data", "image_size", "bits", "limit", "label_noise")
"""Settings of the problem: methods are compared on each, and none is chosen for its accuracy."""

HELD_OUT = 0.2
"""Of the training samples, to choose by, if nothing else is asked for."""

MOST = 10_000
"""Combinations of one method: more are a mistake."""


@dataclass(frozen=True)
class Setting:
    """One combination: what sets it apart, and its recipe but for the seed."""

    values: dict[str, Any]
    recipe: Recipe

    @property
    def method(self) -> str:
        """The optimizer."""
        return self.recipe.optimizer

    @property
    def posed(self) -> dict[str, Any]:
        """What of the problem is varied."""
        return {name: value for name, value in self.values.items() if name in POSED}

    @property
    def tuned(self) -> dict[str, Any]:
        """What is chosen for its accuracy."""
        return {k: v for k, v in self.values.items() if k not in (*POSED, "optimizer")}

    @property
    def label(self) -> str:
        """What sets it apart, in words."""
        return told(self.values) or self.method


@dataclass(frozen=True)
class Planned:
    """A run: the name of its folder in the sweep's, and its recipe."""

    name: str
    recipe: Recipe = field(compare=False)


def numbers(settings: Recipe) -> str:
    """All that decides a run's numbers, as text: of two runs the same if they are the same run."""
    aside = (recipe.unused(settings) | ASIDE) - {"seed"}
    told = {k: v for k, v in settings.settings.items() if k not in aside}
    return json.dumps(told, sort_keys=True, default=str)


@dataclass(frozen=True)
class Plan:
    """All settings and seeds of a sweep. ``names`` are those of runs that have another folder."""

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def validation(self) -> float:
        """The share that is held out, the same for all."""
        return self.settings[0].recipe.validation

    @property
    def groups(self) -> list[list[Setting]]:
        """The settings of one method on one problem, of which one is chosen."""
        groups: dict[str, list[Setting]] = {}
        for setting in self.settings:
            key = json.dumps([setting.posed, setting.method], default=str)
            groups.setdefault(key, []).append(setting)
        return list(groups.values())

    @property
    def runs(self) -> list[Planned]:
        """Every run, seed by seed: if the sweep is stopped, all settings have the first seeds."""
        by_setting = [self.runs_of(setting) for setting in self.settings]
        return [run for of_seed in zip(*by_setting) for run in of_seed]

    def runs_of(self, setting: Setting) -> list[Planned]:
        """A setting's runs, a seed each."""
        runs = []
        for seed in self.seeds:
            name = f"{folder_of(setting.values, setting.method)}-seed{seed}"
            own = setting.recipe.model_copy(update={"seed": seed})
            runs.append(Planned(self.names.get(name, name), own))
        return runs


def make(
    settings: dict[str, Any],
    varied: list[Varied],
    *,
    seeds: int,
    random: int | None = None,
    validation: float | None = None,
    source: str = "sweep",
) -> Plan:
    """The plan of a sweep over a recipe's ``settings``.

    Every combination of what is varied, or with ``random`` so many drawn for every method. Seeds
    count from the recipe's own. Without ``validation`` the recipe's share is held out, or a fifth
    if it has none and there is something to choose. Raises ValueError for what makes no sense.
    """
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, not {seeds}")
    _check_ways(varied, random)
    base = whole(settings, source)
    named = [one for one in varied if one.name == "optimizer"]
    methods = list(named[0].values) if named else [base.optimizer]
    for one in varied:
        if one.method is not None and one.method not in methods:
            raise ValueError(
                f"--set {one.typed}: {one.method} is not among the methods of this sweep"
                f"{did_you_mean(one.method, map(str, methods))}; there are "
                f"{', '.join(map(str, methods))}"
            )
    found: dict[str, Setting] = {}
    for method in methods:
        own = {one.name: one for one in varied if one.method in (None, method)}
        own |= {one.name: one for one in varied if one.method == method}
        own.pop("optimizer", None)
        for one in list(own.values()):
            if one.method is None and _is_anothers(one.name, method, methods):
                del own[one.name]
        if random is None and (n := math.prod(len(one.values) for one in own.values())) > MOST:
            raise ValueError(f"these are {n:,} combinations: draw some of them with --random N")
        chosen = {"optimizer": method} if named else {}
        for values in _combinations(list(own.values()), random, base.seed):
            setting = _setting(settings, chosen | values, source)
            found.setdefault(numbers(setting.recipe), setting)
    _check_meaning(varied, list(found.values()))
    plan = Plan(_apart(list(found.values())), tuple(range(base.seed, base.seed + seeds)))
    return _held_out(plan, validation)


def _is_anothers(name: str, method: str, methods: list[str]) -> bool:
    """Whether it is an option that this method does not have, and another of the sweep has."""
    table, _, option = name.partition(".")
    return (
        table == "optimizer_options"
        and option not in recipe.options_of(method)
        and any(option in recipe.options_of(other) for other in methods)
    )


def _check_ways(varied: list[Varied], random: int | None) -> None:
    drawn = [one for one in varied if one.range is not None]
    if random is None and drawn:
        raise ValueError(
            f"--set {drawn[0].typed}: a range is drawn from: give --random N, or list the values"
        )
    if random is not None and random < 1:
        raise ValueError(f"--random must be at least 1, not {random}")
    if random is not None and not [one for one in varied if one.name != "optimizer"]:
        raise ValueError("--random draws settings: say from what, as in --set rho=0.01:1:log")


def _combinations(varied: list[Varied], random: int | None, seed: int) -> Iterator[dict[str, Any]]:
    """The grid, or draws, each by its number: the first of more are the same."""
    if random is None:
        for values in itertools.product(*(one.values for one in varied)):
            yield {one.name: value for one, value in zip(varied, values)}
        return
    for i in range(random):
        yield {one.name: one.draw(Stream("sweep", one.name, seed, i)) for one in varied}


def _setting(settings: dict[str, Any], values: dict[str, Any], source: str) -> Setting:
    """One combination over the recipe. Raises RecipeError, and says which combination it is."""
    given = {name: value for name, value in values.items() if "." not in name}
    over = recipe.over(settings, given)
    for name, value in values.items():
        table, dot, option = name.partition(".")
        if dot:
            over[table] = {**over.get(table, {}), option: value}
    where = " ".join(f"--set {name}={typed(value)}" for name, value in values.items())
    return Setting(values, whole(over, where or source))


def _check_meaning(varied: list[Varied], settings: list[Setting]) -> None:
    """Raise ValueError for what none of its methods looks at."""
    for one in varied:
        its = [s for s in settings if one.method in (None, s.method)]
        if its and all(one.name in recipe.unused(s.recipe) for s in its):
            methods = dict.fromkeys(s.method for s in its)
            raise ValueError(
                f"--set {one.typed} means nothing to {' and '.join(methods)}: drop it, or name "
                "the method that it is of"
            )


def _apart(settings: list[Setting]) -> tuple[Setting, ...]:
    """The same settings, each with those values only that set it apart and mean something to it."""
    taken: dict[str, set[str]] = {}
    for setting in settings:
        for name, value in setting.values.items():
            taken.setdefault(name, set()).add(json.dumps(value, default=str))
    several = {name for name, values in taken.items() if len(values) > 1}
    return tuple(
        replace(
            s,
            values={
                name: value
                for name, value in s.values.items()
                if name in several and name not in recipe.unused(s.recipe)
            },
        )
        for s in settings
    )


def _held_out(plan: Plan, validation: float | None) -> Plan:
    """The plan with its share held out. Raises ValueError where none is and one is needed."""
    choosing = max(plan.groups, key=len)
    if validation is None:
        validation = plan.validation or (HELD_OUT if len(choosing) > 1 else 0.0)
    if not 0 <= validation < 1:
        raise ValueError(f"--validation is a share from 0, below 1, not {validation:g}")
    if validation == 0 and len(choosing) > 1:
        raise ValueError(
            f"--validation 0 leaves nothing to choose among {len(choosing)} settings of "
            f"{choosing[0].method} by: the test samples do not choose"
        )
    return replace(
        plan,
        settings=tuple(
            replace(s, recipe=s.recipe.model_copy(update={"validation": validation}))
            for s in plan.settings
        ),
    )
