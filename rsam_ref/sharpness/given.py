"""What a user names to be measured, in whatever library: batches, data, measures, a first try.

What a model is and what a batch holds, `rsam_ref.pytorch.given` and `rsam_ref.jax.given` know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rsam_backends.base import kind_of
from rsam_ref.data import Samples, load_dataset
from rsam_ref.data.feed import batches as training_batches
from rsam_ref.sharpness.survey import MEASURES, USUAL, SurveySettings, chosen_samples

InOneLine = Callable[[BaseException], str]


class GivenError(Exception):
    """What was named is of another kind, or fails; the message says it in one line."""


def one_line(error: BaseException) -> str:
    """An error's kind and all that it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def called(function: Callable[[], Any], name: str, told: InOneLine = one_line) -> Any:
    """What a function without arguments gives."""
    try:
        return function()
    except Exception as error:
        raise GivenError(f"{name} could not be called without arguments: {told(error)}") from None


def whole_batches(
    source: Any,
    name: str,
    samples: int,
    *,
    each: Callable[[Any], Iterable[Any]],
    count: Callable[[Any], int],
    kind: str,
    told: InOneLine,
) -> list[Any]:
    """Whole batches, in their order, until they hold so many samples.

    ``each(source)`` are the batches of what was named, ``count(batch)`` the samples of one, and
    ``kind`` says what a list of them is called.
    """
    if callable(source) and not hasattr(source, "__iter__"):
        source = called(source, name, told)
    if not isinstance(source, Iterable):
        raise GivenError(
            f"{name} is {kind_of(source)}: give a loader, {kind}, or a function that returns one"
        )
    found: list[Any] = []
    held = 0
    try:
        for batch in each(source):
            found.append(batch)
            held += count(batch)
            if held >= samples:
                break
    except Exception as error:
        raise GivenError(f"{name} could not be gone through: {told(error)}") from None
    if not found:
        raise GivenError(f"{name} holds no batch")
    return found


def training_data(
    where: str, settings: SurveySettings, size: int
) -> tuple[list[Any], list[Any], tuple[str, ...]]:
    """Training samples (x, y), those that a run is measured on, and mini-batches of ``size``.

    And what reading the data left out or set right, a line each.
    """
    data = _read(where, settings)
    n = len(data.train)
    order = islice(training_batches(n, size, settings.seed, 0), settings.batches)
    training = [_taken(data.train, index) for index in order]
    return _drawn(data.train, "train", settings, size), training, data.notes


def test_data(where: str, settings: SurveySettings, size: int) -> list[Any]:
    """Test samples (x, y), as many as of training, ``size`` at a time."""
    return _drawn(_read(where, settings).test, "test", settings, size)


def _read(where: str, settings: SurveySettings) -> Any:
    return load_dataset(where if where == "digits" else Path(where), seed=settings.seed)


def _drawn(samples: Samples, part: str, settings: SurveySettings, size: int) -> list[Any]:
    """Some of the samples, drawn by the seed, ``size`` at a time."""
    index = chosen_samples(part, len(samples), settings.samples, settings.seed)
    return [_taken(samples, index[start : start + size]) for start in range(0, len(index), size)]


def _taken(samples: Samples, index: Any) -> tuple[Any, Any]:
    return samples.take(index), samples.labels[index]


def try_out(network: Any, told: InOneLine) -> None:
    """Compute a network's loss once; whatever goes wrong in it is told in one line."""
    try:
        network.loss_at_weights  # noqa: B018 - computed, and kept
    except ArithmeticError as error:
        raise GivenError(str(error)) from None
    except Exception as error:
        raise GivenError(f"{network.path} could not be run: {told(error)}") from None


def finite_loss(name: str, loss: float) -> float:
    """The loss at the weights themselves; ArithmeticError where it is not finite."""
    if not math.isfinite(loss):
        raise ArithmeticError(
            f"the loss of {name} at the weights themselves is {loss}, so there is no flatness to "
            "measure: look at weights and inputs, or compute in float64"
        )
    return loss


def known_measures(named: Sequence[str] | None) -> list[str]:
    """The measures that are named; the usual ones for None. Raises ValueError for unknown ones."""
    wanted = list(USUAL if named is None else named)
    if unknown := [measure for measure in wanted if measure not in MEASURES]:
        raise ValueError(f"unknown measure {unknown[0]!r}; there are {', '.join(MEASURES)}")
    return wanted
