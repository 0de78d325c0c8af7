"""How good a trained model is on labelled samples: the whole, each class, and what it confuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rsam_backends import quiet, to_host, xp
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.data import Dataset, Samples, load_dataset
from rsam_ref.data.errors import DataError
from rsam_ref.data.names import first_of
from rsam_ref.files import write_table, write_whole
from rsam_ref.training import recipe, trained
from rsam_ref.training.predictor import Predictor


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    ``confusion`` (C, C) counts the samples of each true class (rows) by the class that they were
    taken for (columns); those counted by class in ``unscored`` had scores that are not finite, and
    are wrong.
    """

    classes: tuple[str, ...]
    confusion: list[list[int]]
    unscored: list[int]
    loss: float

    @cached_property
    def support(self) -> list[int]:
        """The samples of each class."""
        return [sum(row) + more for row, more in zip(self.confusion, self.unscored)]

    @property
    def samples(self) -> int:
        """All samples."""
        return sum(self.support)

    @property
    def accuracy(self) -> float:
        """The share of samples that were taken for what they are."""
        return sum(row[i] for i, row in enumerate(self.confusion)) / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of 95 % for the accuracy, from the number of samples alone."""
        n, p, z = self.samples, self.accuracy, 1.959964
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return middle - half, middle + half

    def recall(self, i: int) -> float | None:
        """The share of a class that was found; None for a class without samples."""
        return self.confusion[i][i] / self.support[i] if self.support[i] else None

    def precision(self, i: int) -> float | None:
        """The share of what was taken for a class that is of it; None where nothing was."""
        taken = sum(row[i] for row in self.confusion)
        return self.confusion[i][i] / taken if taken else None

    def confused(self) -> list[tuple[int, int, int]]:
        """(true class, taken for, samples) of every confusion, the most frequent first."""
        pairs = [
            (i, j, count)
            for i, row in enumerate(self.confusion)
            for j, count in enumerate(row)
            if i != j and count
        ]
        return sorted(pairs, key=lambda pair: -pair[2])

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "samples": self.samples,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "loss": self.loss if math.isfinite(self.loss) else None,
            "unscored": sum(self.unscored),
            "classes": [
                {
                    "name": name,
                    "samples": self.support[i],
                    "recall": self.recall(i),
                    "precision": self.precision(i),
                }
                for i, name in enumerate(self.classes)
            ],
            "confusion": self.confusion,
        }


def evaluate_on(
    predictor: Predictor, samples: Samples, on_batch: Callable[[int], None] = lambda done: None
) -> Evaluation:
    """A model on labelled samples, in evaluation mode. ``on_batch`` is told how many are done."""
    classes = len(predictor.inputs.classes)
    loss = recipe.loss_function(predictor.recipe)
    counts, unscored = xp.zeros(classes * classes), xp.zeros(classes)
    total, done = 0.0, 0
    for scores, labels in predictor.scores(samples):
        finite = xp.asarray(xp.all(xp.isfinite(scores._data), axis=1), dtype=counts.dtype)
        places = labels * classes + xp.argmax(scores._data, axis=1)
        counts = counts + xp.bincount(places, weights=finite, minlength=classes * classes)
        unscored = unscored + xp.bincount(labels, weights=1 - finite, minlength=classes)
        with no_grad(), quiet():
            total += float(loss(scores, Tensor.over(labels))._data) * len(labels)
        done += len(labels)
        on_batch(done)
    matrix = to_host(counts).astype(int).reshape(classes, classes).tolist()
    lost = to_host(unscored).astype(int).tolist()
    return Evaluation(predictor.inputs.classes, matrix, lost, total / done)


@dataclass(frozen=True)
class Labelled:
    """Samples to evaluate on, and what they are called. ``notes`` are those of a data set."""

    name: str
    samples: Samples
    notes: tuple[str, ...] = ()


def samples_for(predictor: Predictor, where: str | None = None, part: str = "test") -> Labelled:
    """Labelled samples in a model's form: a part of a data set, or folders named like classes.

    Without ``where`` those of the run itself, without the pictures that it leaves out. Others are
    brought to the model's size and normalised by its statistics. Raises DataError for other classes
    than the model's, or pictures of another form, and for ``part`` "validation" where nothing is
    held out.
    """
    if where is None:
        data = trained.data_of_a_run(predictor.folder, predictor.recipe)
        if part == "validation" and data.validation is None:
            raise DataError(predictor.folder, "holds no samples out: its validation is 0")
        return Labelled(f"{data.name}, {part} samples", getattr(data, part), data.notes)
    folder = Path(where)
    if where != "digits" and folder.is_dir():
        samples = predictor.inputs.labelled(folder)
        if samples is not None:
            return Labelled(folder.resolve().name, samples)
    data = _data_for(predictor, where)
    return Labelled(f"{data.name}, {part} samples", getattr(data, part), data.notes)


def _data_for(predictor: Predictor, where: str) -> Dataset:
    inputs, settings = predictor.inputs, predictor.recipe
    size = inputs.shape[1] if inputs.encoded else settings.image_size
    data = load_dataset(
        where,
        image_size=size,
        seed=settings.seed,
        bits=settings.bits,
        statistics=None if inputs.encoded else (inputs.mean, inputs.std),
    )
    if data.classes != inputs.classes:
        raise DataError(
            where,
            f"has the classes {first_of(data.classes, 4)}, the model "
            f"{first_of(inputs.classes, 4)}: it must have the same, in the same order",
        )
    if data.shape != inputs.shape:
        raise DataError(where, f"has pictures of shape {data.shape}, the model {inputs.shape}")
    return data


def write_evaluation(result: Evaluation, folder: Path, title: str) -> list[Path]:
    """Write evaluation.json, confusion.csv and confusion.png into a folder."""
    from rsam_ref.figures import save
    from rsam_ref.training.figures import confusion_figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("evaluation.json", "confusion.csv", "confusion.png")]
    write_whole(paths[0], (json.dumps(result.plain(), indent=2) + "\n").encode())
    rows = ([name, *row] for name, row in zip(result.classes, result.confusion))
    write_table(paths[1], ["true class", *result.classes], rows)
    save(confusion_figure(result.classes, result.confusion, title), paths[2])
    return paths
