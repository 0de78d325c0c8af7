"""What a user names, a model, a loss, batches, made into what a `Network` is of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from rsam_backends import Stream
from rsam_ref.data import load_dataset
from rsam_ref.data.errors import DataError
from rsam_ref.data.feed import batches as training_batches
from rsam_ref.pytorch.batches import as_batches, count_samples, is_one
from rsam_ref.pytorch.network import Network, load_state
from rsam_ref.pytorch.objectives import Loss
from rsam_ref.sharpness.survey import SurveySettings

Batches = list[Any]


class GivenError(Exception):
    """What was named is of another kind, or fails; the message says it in one line."""


def model(made: Any, name: str, seed: int, weights: Path | None = None) -> nn.Module:
    """A model, or what a function or a class without arguments makes, perhaps with weights."""
    if not isinstance(made, nn.Module):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = _called(made, name)
    if not isinstance(made, nn.Module):
        raise GivenError(f"{name} gives a {type(made).__name__}, not a torch.nn.Module")
    if weights is not None:
        if not weights.is_file():
            raise DataError(weights, "no such file; give the weights as safetensors or npz")
        load_state(made, weights)
    return made


def loss(given: Any) -> Loss:
    """A function of output and target; of a class an instance; cross-entropy for None."""
    if given is None:
        return nn.functional.cross_entropy
    made = given() if inspect.isclass(given) else given
    if not callable(made):
        raise GivenError(f"the loss is a {type(made).__name__}, not a function(output, target)")
    return cast(Loss, made)


def use_threads(count: int | None) -> None:
    """As many threads as that for torch's own kernels; None leaves torch's choice."""
    if count is not None:
        torch.set_num_threads(count)


def precision(name: str) -> torch.dtype:
    """The type of that name."""
    return cast(torch.dtype, getattr(torch, name))


def batches(source: Any, name: str, samples: int) -> Batches:
    """Whole batches, in their order, until they hold so many samples."""
    if callable(source) and not hasattr(source, "__iter__"):
        source = _called(source, name)
    if not isinstance(source, Iterable):
        raise GivenError(
            f"{name} is a {type(source).__name__}: give a loader, a list of batches (x, y), or a "
            "function that returns one"
        )
    found: Batches = []
    count = 0
    try:
        for batch in as_batches(source) if is_one(source) else source:
            found.append(batch)
            count += count_samples(batch)
            if count >= samples:
                break
    except Exception as error:
        raise GivenError(f"{name} could not be gone through: {_one_line(error)}") from None
    if not found:
        raise GivenError(f"{name} holds no batch")
    return found


def of_data(
    where: str, settings: SurveySettings, size: int
) -> tuple[Batches, Batches, tuple[str, ...]]:
    """Training samples, those that a run of ours is measured on, and mini-batches of ``size``.

    And what reading the data left out or set right, a line each.
    """
    data = load_dataset(where if where == "digits" else Path(where), seed=settings.seed)
    train = data.train
    index = Stream("samples", settings.seed).permutation(len(train))[: settings.samples]
    parts = [index[start : start + size] for start in range(0, len(index), size)]
    order = islice(training_batches(len(train), size, settings.seed, 0), settings.batches)
    evaluation, training = (
        [(torch.as_tensor(train.take(i)), torch.as_tensor(train.labels[i])) for i in chosen]
        for chosen in (parts, order)
    )
    return evaluation, training, data.notes


def of_test_data(where: str, settings: SurveySettings, size: int) -> Batches:
    """Test samples, as many as of training, ``size`` at a time."""
    test = load_dataset(where if where == "digits" else Path(where), seed=settings.seed).test
    index = Stream("test samples", settings.seed).permutation(len(test))[: settings.samples]
    parts = [index[start : start + size] for start in range(0, len(index), size)]
    return [(torch.as_tensor(test.take(i)), torch.as_tensor(test.labels[i])) for i in parts]


def try_out(network: Network) -> None:
    """Compute the loss once; whatever goes wrong in the model is told in one line."""
    try:
        network.loss_at_weights  # noqa: B018 - computed, and kept
    except ArithmeticError as error:
        raise GivenError(str(error)) from None
    except Exception as error:
        raise GivenError(f"{network.path} could not be run: {_one_line(error)}") from None


def _called(function: Callable[[], Any], name: str) -> Any:
    try:
        return function()
    except Exception as error:
        raise GivenError(
            f"{name} could not be called without arguments: {_one_line(error)}"
        ) from None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
