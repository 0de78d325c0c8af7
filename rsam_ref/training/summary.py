"""Several runs in one table: what they differ in, and what came out over their seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsam_ref.data.errors import DataError
from rsam_ref.training import recipe
from rsam_ref.training.checkpoint import newest_first, step_of
from rsam_ref.training.metrics import DIVERGED, read_rows
from rsam_ref.training.recipe import Recipe
from rsam_ref.training.statistics import interval_of, mean

ASIDE = {
    "seed",
    "log_every",
    "evaluate_every",
    "checkpoint_every",
    "tensorboard",
    "recompute",
    "keep_checkpoints",
}
"""Settings in which runs of one group may differ: the seed, and what decides no number."""


OF_A_ROW = {"step", "epoch", "test_loss", "test_accuracy", "seconds"}
"""What a row of the metrics has, whatever else."""


@dataclass(frozen=True)
class Past:
    """A run as its folder tells it. ``rows`` are its metrics; the last has the step it is at."""

    folder: Path
    recipe: Recipe
    rows: list[dict[str, Any]]
    steps: int | None
    """Of the whole run; None where run.json does not tell."""

    @property
    def finished(self) -> bool:
        """Whether it has trained to its end."""
        return (self.folder / "model.safetensors").is_file()

    @property
    def diverged(self) -> str:
        """Where its training broke down, and why; empty where it did not."""
        try:
            told = json.loads((self.folder / DIVERGED).read_text(encoding="utf-8"))
            return str(told["diverged"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def step(self) -> int:
        """The last step that is kept: in a checkpoint, or at least in the metrics."""
        kept = [step_of(path) for path in newest_first(self.folder / "checkpoints")[:1]]
        return max([*kept, *(row["step"] for row in self.rows[-1:])], default=0)

    @property
    def tests(self) -> list[dict[str, Any]]:
        """The rows with a test."""
        return [row for row in self.rows if row.get("test_accuracy") is not None]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides its numbers, but the seed; without what means nothing to its optimizer."""
        unused = recipe.unused(self.recipe) | ASIDE
        return {k: v for k, v in self.recipe.settings.items() if k not in unused}


def read_run(folder: Path) -> Past:
    """What a run's folder tells. Raises DataError where it holds no run, or a damaged one."""
    if not (folder / "recipe.toml").is_file():
        raise DataError(folder, "has no recipe.toml, so it is no run of rsam-ref train")
    settings, rows = recipe.of_run(folder), _rows(folder / "metrics.jsonl")
    try:
        steps = json.loads((folder / "run.json").read_text(encoding="utf-8"))["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        steps = None
    return Past(folder, settings, rows, steps)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of the metrics. Raises DataError for what are none."""
    try:
        rows = list(read_rows(path))
    except UnicodeDecodeError as error:
        raise DataError(path, f"is damaged ({error})") from None
    for i, row in enumerate(rows):
        if not isinstance(row, dict) or not row.keys() >= OF_A_ROW:
            raise DataError(path, f"is damaged: line {i + 1} is no row of metrics")
    return rows


def runs_in(paths: list[Path], tell: Callable[[str], Any] | None = None) -> list[Past]:
    """The runs in these folders, each a run or a folder of runs; a run that is told twice once.

    Raises DataError for a folder that is neither, and for a damaged run; one in a folder of runs is
    left out where ``tell`` is given, which is told of it.
    """
    found: dict[Path, Past] = {}
    for path in paths:
        if (path / "recipe.toml").is_file():
            below = [path]
        elif path.is_dir():
            below = sorted(file.parent for file in path.glob("*/recipe.toml"))
        else:
            raise DataError(path, "no such folder")
        if not below:
            raise DataError(path, "is no run of rsam-ref train, and no folder of runs")
        for folder in below:
            if folder.resolve() in found:
                continue
            try:
                found[folder.resolve()] = read_run(folder)
            except (OSError, ValueError) as error:
                if tell is None or folder == path:
                    raise
                tell(f"{error}; {folder} does not count.")
    return list(found.values())


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    ``differs`` are the settings that not all groups share; those that mean nothing to this one are
    not there.
    """

    differs: dict[str, Any]
    runs: list[Past]

    @property
    def part(self) -> str:
        """Of what samples the tests are while it trains: validation where some are held out."""
        return "validation" if self.runs[0].recipe.validation else "test"

    @property
    def name(self) -> str:
        """The settings that set it apart, in words."""
        told = [
            value if name in ("model", "optimizer") else f"{name} {in_words(value)}"
            for name, value in self.differs.items()
            if value != {}
        ]
        return ", ".join(told) or "all runs"

    @property
    def done(self) -> list[Past]:
        """The finished runs that were tested, one for each seed: those that count."""
        by_seed: dict[int, Past] = {}
        for run in self.runs:
            if run.finished and run.tests:
                by_seed.setdefault(run.recipe.seed, run)
        return list(by_seed.values())

    @property
    def again(self) -> list[Past]:
        """Finished runs of a seed that another one has: the same again, which say nothing new."""
        counted = [run.folder for run in self.done]
        return [
            run for run in self.runs if run.finished and run.tests and run.folder not in counted
        ]

    def values(self, name: str) -> list[float]:
        """Of the last row with a test of every run that counts; inf where it is not finite."""
        found = [run.tests[-1].get(name) for run in self.done]
        return [math.inf if value is None else float(value) for value in found]

    def interval(self, name: str) -> tuple[float, float | None]:
        """The mean over the runs that count, and half of Student's 95 % interval for it.

        None for the half where there is one run. Raises ValueError without any.
        """
        values = self.values(name)
        if not values:
            raise ValueError(f"{self.name}: no run is finished")
        return interval_of(values)

    def curve(self, name: str) -> list[tuple[float, float, float, float]]:
        """(epoch, mean, lowest, highest) over the runs that count, where all were tested."""
        by_epoch: dict[float, list[float]] = {}
        for run in self.done:
            for row in run.tests:
                if row.get(name) is not None:
                    by_epoch.setdefault(row["epoch"], []).append(row[name])
        whole = {e: v for e, v in sorted(by_epoch.items()) if len(v) == len(self.done)}
        return [(epoch, mean(values), min(values), max(values)) for epoch, values in whole.items()]


def in_words(value: Any) -> str:
    """A setting's value as people write it."""
    if isinstance(value, str) and Path(value.rpartition(":")[0] or value).is_absolute():
        return Path(value).name  # of data, weights, and models and losses of one's own
    if isinstance(value, dict):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def groups_of(runs: list[Past]) -> list[Group]:
    """Runs together that differ in their seed alone, in the order in which they were given."""
    together: dict[str, list[Past]] = {}
    for run in runs:
        key = json.dumps(run.settings, sort_keys=True, default=str)
        together.setdefault(key, []).append(run)
    kinds = [group[0].settings for group in together.values()]
    names = [name for name in Recipe.model_fields if _differs(name, kinds)]
    return [
        Group({name: kind[name] for name in names if name in kind}, group)
        for kind, group in zip(kinds, together.values())
    ]


def _differs(name: str, kinds: list[dict[str, Any]]) -> bool:
    """Whether a setting has more than one value among the groups to which it means something."""
    return len({json.dumps(kind[name], default=str) for kind in kinds if name in kind}) > 1
