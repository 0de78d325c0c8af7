"""Whether every run of a sweep can be begun, or gone on with: looked at before the first is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rsam_ref.data import Dataset
from rsam_ref.training import arithmetic, recipe
from rsam_ref.training.exchange import load_weights
from rsam_ref.training.recipe import Recipe, RecipeError
from rsam_ref.training.sweeps.names import mark
from rsam_ref.training.sweeps.plan import Plan, numbers

OF_DATA = ("data", "image_size", "limit", "bits", "label_noise", "validation", "skip_damaged")


@dataclass(frozen=True)
class Seen:
    """What is kept of data that were looked at."""

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    watched: int
    test: int
    fingerprint: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, data: Dataset) -> Seen:
        """Of loaded data."""
        sizes = (len(data.train), len(data.watched), len(data.test))
        kind = data.name, data.shape, len(data.classes)
        return cls(*kind, *sizes, data.fingerprint, data.notes)


def look(plan: Plan) -> dict[str, Seen]:
    """The data of a plan's runs with the first seed, by the settings that decide them.

    Every setting's model, first weights, loss, schedule and optimizer are made, with the first
    seed. Raises what making them raises: ValueError for settings, DataError for data.
    """
    data: dict[str, Seen] = {}
    models: set[str] = set()
    for setting in plan.settings:
        settings = setting.recipe
        arithmetic.told(settings)
        key = _of_data(settings)
        if key not in data:
            data[key] = Seen.of(recipe.dataset(settings, augmented=False))
        seen = data[key]
        kind = {name: settings.settings.get(name) for name in ("model", "model_options", "init")}
        if (made := json.dumps([kind, seen.shape, seen.classes], default=str)) not in models:
            model = recipe.model_for(settings, seen.shape, seen.classes)
            if settings.init is not None:
                load_weights(model, settings.init, new_head=True)
            models.add(made)
        try:
            recipe.try_loss(settings, seen.classes)
            recipe.loss_function(settings)
            per_epoch = math.ceil(seen.train / settings.batch_size)
            recipe.optimizer(settings, settings.epochs * per_epoch)
        except RecipeError as error:
            raise RecipeError(f"{setting.label}: {error}") from None
    return data


def _of_data(settings: Recipe) -> str:
    return json.dumps({name: settings.settings.get(name) for name in OF_DATA})


def located(plan: Plan, folder: Path, seen: dict[str, Seen]) -> Plan:
    """The plan with the names of runs that are in the folder already, whatever they are called.

    A run is known by its settings; one of other settings that has a name of the plan keeps it.
    Raises ValueError where code of one's own, or the data of a run with the first seed, are others
    than when it began.
    """
    there = {
        numbers(recipe.of_run(file.parent)): file.parent.name
        for file in sorted(folder.glob("*/recipe.toml"))
    }
    taken, names = set(there.values()), {}
    for run in plan.runs:
        key = numbers(run.recipe)
        if key in there:
            names[run.name] = there[key]
            data = seen[_of_data(run.recipe)] if run.recipe.seed == plan.seeds[0] else None
            if changed := _changed(folder / there[key], run.recipe, data):
                raise ValueError(
                    f"{changed} is another than when {folder / there[key]} began: put the old one "
                    "back, or give another folder with --out"
                )
        elif run.name in taken:
            names[run.name] = f"{run.name}-{mark(key)}"
    return replace(plan, names=names)


def _changed(folder: Path, settings: Recipe, data: Seen | None) -> str | None:
    """What a run began with and is another now: a file of one's own code, or its data."""
    try:
        described: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        code = described["sessions"][-1].get("code", {})
        before = described["data"]["fingerprint"]
    except (OSError, ValueError, KeyError, IndexError):
        return None  # nothing to compare with
    if data is not None and data.fingerprint != before:
        return settings.data
    now = recipe.code(settings)
    return next((path for path, told in now.items() if code.get(path, told) != told), None)
