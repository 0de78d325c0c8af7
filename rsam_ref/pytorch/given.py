"""What a user names, a model, a loss, batches, made into what a `Network` is of."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from rsam_backends.base import kind_of
from rsam_ref.data.errors import DataError
from rsam_ref.pytorch.batches import as_batches, count_samples, is_one
from rsam_ref.pytorch.network import Network, load_state
from rsam_ref.pytorch.objectives import Loss
from rsam_ref.sharpness import given as of_any
from rsam_ref.sharpness.given import (
    GivenError,
    called,
    one_line,
    test_data,
    training_data,
    whole_batches,
)
from rsam_ref.sharpness.survey import SurveySettings

Batches = list[Any]


def model(made: Any, name: str, seed: int, weights: Path | None = None) -> nn.Module:
    """A model, or what a function or a class without arguments makes, perhaps with weights."""
    if not isinstance(made, nn.Module):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = called(made, name)
    if not isinstance(made, nn.Module):
        raise GivenError(f"{name} gives {kind_of(made)}, not a torch.nn.Module")
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
        raise GivenError(f"the loss is {kind_of(made)}, not a function(output, target)")
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
    return whole_batches(
        source,
        name,
        samples,
        each=lambda given: as_batches(given) if is_one(given) else given,
        count=count_samples,
        kind="a list of batches (x, y)",
        told=one_line,
    )


def of_data(
    where: str, settings: SurveySettings, size: int
) -> tuple[Batches, Batches, tuple[str, ...]]:
    """Training samples, those that a run of ours is measured on, and mini-batches of ``size``.

    And what reading the data left out or set right, a line each.
    """
    evaluation, training, notes = training_data(where, settings, size)
    return _as_tensors(evaluation), _as_tensors(training), notes


def of_test_data(where: str, settings: SurveySettings, size: int) -> Batches:
    """Test samples, as many as of training, ``size`` at a time."""
    return _as_tensors(test_data(where, settings, size))


def _as_tensors(batches: Batches) -> Batches:
    return [tuple(map(torch.as_tensor, batch)) for batch in batches]


def try_out(network: Network) -> None:
    """Compute the loss once; whatever goes wrong in the model is told in one line."""
    of_any.try_out(network, one_line)
