"""What a comparison is posed on: data split anew by every seed, and a model for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rsam_backends import Stream
from rsam_ref import models
from rsam_ref.data import Dataset, Split, digits_split, load_dataset
from rsam_ref.data.digits import with_noise
from rsam_ref.data.samples import ArraySamples
from rsam_ref.nn.module import Module

DIGITS = 898
"""Half of the 1,797 digits are trained on."""

VALIDATION = 0.2
"""The share of other data's training samples that choose the settings."""

LARGEST = 4e9  # bytes: every process holds the samples


@dataclass(frozen=True)
class Problem:
    """Data and a model. The defaults are those of ``rsam-ref compare``: an MLP on the digits.

    Of the embedded digits a half is trained on, a quarter chooses and a quarter tests, split by the
    seed. Of other data a fifth of the training samples, drawn by the seed, chooses; ``limit`` of
    the rest are trained on, and half as many choose then; the test samples test.
    """

    data: str = "digits"
    fingerprint: str = ""
    """Of the data where they are not the digits, so that runs of others are not taken for these."""
    image_size: int | None = None
    limit: int | None = None
    model: str = "mlp"
    model_options: dict[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many are trained on."""
        if self.data == "digits":
            return min(DIGITS, self.limit or DIGITS)
        n = len(_loaded(self.data, self.image_size).train)
        return self.limit or n - math.ceil(VALIDATION * n)

    def split(self, seed: int, label_noise: float) -> Split:
        """The samples of a seed, with that share of the training labels replaced at random."""
        if self.data == "digits":
            whole = digits_split(seed, label_noise)
            few = slice(self.limit)
            x = (whole.x_train[few], whole.x_val, whole.x_test)
            x_train, x_val, x_test = (self._shaped(part) for part in x)
            return Split(
                *(x_train, whole.y_train[few]), *(x_val, whole.y_val), *(x_test, whole.y_test)
            )
        data = _loaded(self.data, self.image_size)
        stream = Stream("comparison", seed)
        order = stream.permutation(len(data.train))
        n = self.samples
        chosen, rest = order[:n], order[n : n + math.ceil(n / 2)] if self.limit else order[n:]
        labels = with_noise(data.train.labels[chosen], label_noise, len(data.classes), stream)
        return Split(
            *(data.train.take(chosen), labels),
            *(data.train.take(rest), data.train.labels[rest]),
            *(data.test.take(data.test.everything), data.test.labels),
        )

    def sample_arrays(self) -> Dataset | None:
        """Its data, to be sent to a machine that may lack them: those in arrays.

        None for the digits, which are everywhere, and for pictures in files.
        """
        if self.data == "digits":
            return None
        data = _loaded(self.data, self.image_size)
        return data if isinstance(data.train, ArraySamples) else None

    def take_over(self, data: Dataset) -> None:
        """Let this process have the data that were sent to it, and read none."""
        _sent[self.data, self.image_size] = data

    def _shaped(self, rows: Any) -> Any:
        """The digits as `mlp` takes them, rows of 64, or as images for all other models."""
        return rows if self.model == "mlp" else rows.reshape(-1, 1, 8, 8)

    def make(self, seed: int, hidden: Sequence[int]) -> Module:
        """The model at the first weights of a seed; ``hidden`` are the widths of `mlp`."""
        options = dict(self.model_options)
        if self.model == "mlp":
            options.setdefault("hidden", hidden)
            if self.data == "digits":
                return models.mlp([64, *options["hidden"], 10], seed=seed)
        shape, classes = (1, 8, 8), 10
        if self.data != "digits":
            data = _loaded(self.data, self.image_size)
            shape, classes = data.shape, len(data.classes)
        return models.make_model(self.model, shape=shape, classes=classes, seed=seed, **options)


def problem_on(
    data: str,
    *,
    model: str = "mlp",
    model_options: dict[str, Any] | None = None,
    image_size: int | None = None,
    limit: int | None = None,
) -> Problem:
    """A problem on data that are looked at now. Raises ValueError for what cannot be posed."""
    if limit is not None and limit < 1:
        raise ValueError(f"the limit must be at least 1, not {limit}")
    options = model_options or {}
    if data == "digits":
        problem = Problem(image_size=image_size, limit=limit, model=model, model_options=options)
        if image_size is not None:
            raise ValueError("the digits are compared at their own 8 x 8 pixels: drop image_size")
    else:
        loaded = _loaded(data, image_size)
        problem = Problem(data, loaded.fingerprint, image_size, limit, model, options)
        n = len(loaded.train)
        if problem.samples + (math.ceil(problem.samples / 2) if limit else 0) > n:
            raise ValueError(
                f"limit {limit}, and half as many to choose with, are more than the {n:,} training "
                f"samples: give at most {2 * n // 3:,}"
            )
        size = 4 * math.prod(loaded.shape) * ((problem.samples * 3 // 2) + len(loaded.test))
        if size > LARGEST:
            raise ValueError(
                f"the samples take {size / 1e9:.1f} GB in every process: train on fewer (limit) or "
                "make the pictures smaller (image_size)"
            )
    problem.make(0, (1,))  # whether the model fits
    return problem


_sent: dict[tuple[str, int | None], Dataset] = {}


def _loaded(where: str, image_size: int | None) -> Dataset:
    return _sent.get((where, image_size)) or _read(where, image_size)


@lru_cache(maxsize=1)
def _read(where: str, image_size: int | None) -> Dataset:
    return load_dataset(where, image_size=image_size)
