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


def located(plan: Plan, folder: Path, seen: dict[str, Seen]) -> tuple[Plan, list[str]]:
    """The plan with the names of runs that are in the folder already, whatever they are called.

    And what is to be told of the folder: what in it cannot be read, and runs that differ in what
    they hold out alone. A run is known by its settings; one of other settings that has a name of
    the plan keeps it. Raises ValueError where code of one's own, or the data of a run with the
    first seed, are others than when it began.
    """
    found, notes = _recipes(folder, {run.name for run in plan.runs})
    there = {numbers(settings): name for name, settings in found.items()}
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
    notes += _held_out_otherwise(plan, folder, there, list(found.values()))
    return replace(plan, names=names), notes


def _recipes(folder: Path, planned: set[str]) -> tuple[dict[str, Recipe], list[str]]:
    """The recipes of the runs in a folder by their names, and a line on each that is unreadable.

    A ``planned`` run says so itself, when it fails.
    """
    found, notes = {}, []
    for file in sorted(folder.glob("*/recipe.toml")):
        try:
            found[file.parent.name] = recipe.of_run(file.parent)
        except (OSError, ValueError) as error:
            if file.parent.name not in planned:
                told = " ".join(str(error).split())
                notes.append(f"{file.parent} is left alone, its recipe cannot be read: {told}")
    return found, notes


def _held_out_otherwise(
    plan: Plan, folder: Path, there: dict[str, str], found: list[Recipe]
) -> list[str]:
    """A line on runs that are there, but with another share held out, and are trained again."""
    anew = {key for run in plan.runs if (key := numbers(run.recipe)) not in there}
    shares, runs = set(), set()
    for settings in found:
        key = numbers(settings.model_copy(update={"validation": plan.validation}))
        if key in anew:
            runs.add(key)
            shares.add(settings.validation)
    if not runs:
        return []
    before = " or ".join(_share(share) for share in sorted(shares))
    why = " to choose by, which are not trained on" if plan.validation and 0 in shares else ""
    return [
        f"{len(runs):,} of the {len(plan.runs):,} runs are in {folder} with {before} held out; now "
        f"it is {_share(plan.validation)}{why}: they are trained again, and the old ones stay."
    ]


def _share(validation: float) -> str:
    return f"a share of {validation:g} of the samples" if validation else "no samples"


def _changed(folder: Path, settings: Recipe, data: Seen | None) -> str | None:
    """What a run began with and is another now: a file of one's own code, or its data."""
    try:
        described: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        code = described["sessions"][-1].get("code", {})
        before = described["data"]["fingerprint"]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None  # nothing to compare with
    if data is not None and data.fingerprint != before:
        return settings.data
    now = recipe.code(settings)
    return next((path for path, told in now.items() if code.get(path, told) != told), None)
