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
from rsam_ref.training.sweeps.plan import Plan, mark, numbers

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
    notes: tuple[str, ...]

    @classmethod
    def of(cls, data: Dataset) -> Seen:
        """Of loaded data."""
        sizes = (len(data.train), len(data.watched), len(data.test))
        return cls(data.name, data.shape, len(data.classes), *sizes, data.notes)


def look(plan: Plan) -> list[Seen]:
    """The data of a plan's runs, each once.

    Every setting's model, first weights, loss, schedule and optimizer are made, with the first
    seed. Raises what making them raises: ValueError for settings, DataError for data.
    """
    data: dict[str, Seen] = {}
    models: set[str] = set()
    for setting in plan.settings:
        settings = setting.recipe
        arithmetic.told(settings)
        of_data = {name: settings.settings.get(name) for name in OF_DATA}
        key = json.dumps(of_data)
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
    return list(data.values())


def located(plan: Plan, folder: Path) -> Plan:
    """The plan with the names of runs that are in the folder already, whatever they are called.

    A run is known by its settings; one of other settings that has a name of the plan keeps it.
    Raises ValueError where code of one's own is another than when a run began.
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
            if changed := _changed_code(folder / there[key], run.recipe):
                raise ValueError(
                    f"{changed} is another than when {folder / there[key]} began: give another "
                    "folder with --out"
                )
        elif run.name in taken:
            names[run.name] = f"{run.name}-{mark(key)}"
    return replace(plan, names=names)


def _changed_code(folder: Path, settings: Recipe) -> str | None:
    """A file of one's own code that is another than in the run's last session."""
    try:
        described: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        before = described["sessions"][-1].get("code", {})
    except (OSError, ValueError, KeyError, IndexError):
        return None  # nothing to compare with
    now = recipe.code(settings)
    return next((path for path, told in now.items() if before.get(path, told) != told), None)
