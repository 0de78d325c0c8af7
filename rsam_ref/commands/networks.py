"""Networks of PyTorch for ``rsam-ref sharpness``: made from what its options name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsam_ref.data.errors import DataError

TARGET = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*")


class NetworkError(Exception):
    """A network cannot be made or run; the message says why, in one line."""


@dataclass(frozen=True)
class Asked:
    """What the options say of networks."""

    weights: list[Path]
    data: str | None
    batches: str | None
    loss: str | None
    forward: str | None
    batch_size: int
    dtype: str


def is_network(argument: str) -> bool:
    """Whether an argument is FILE.py:NAME or package.module:NAME, and no file or folder."""
    return TARGET.fullmatch(argument) is not None and not Path(argument).exists()


def check_asked(targets: list[str], asked: Asked) -> None:
    """Raise ValueError for options that say too little or what does not go together."""
    options = {
        "--weights": asked.weights,
        "--data": asked.data,
        "--batches-from": asked.batches,
        "--loss": asked.loss,
        "--forward": asked.forward,
    }
    given = [name for name, value in options.items() if value]
    if not targets:
        if given:
            raise ValueError(f"{given[0]} is for a network FILE.py:NAME; a run has its own")
        return
    if (asked.data is None) == (asked.batches is None):
        raise ValueError(
            f"say what {targets[0]} is measured on: --data digits or a folder, or "
            "--batches-from FILE.py:NAME, a loader or a list of batches (x, y)"
        )
    if len(targets) > 1 and asked.weights and len(asked.weights) != len(targets):
        raise ValueError(
            f"{len(targets)} networks and {len(asked.weights)} --weights: give one for each, in "
            "their order, or one network and any number"
        )
    if asked.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, not {asked.batch_size}")


def load_networks(targets: list[str], asked: Asked, settings: Any) -> list[Any]:
    """The networks, with their weights, their loss and the batches they are measured on.

    Raises NetworkError or DataError, with one line.
    """
    try:
        import torch

        from rsam_ref.pytorch.network import Network
    except ImportError as error:
        raise NetworkError(
            f"a network FILE.py:NAME needs PyTorch ({error}): pip install 'rsam-ref[torch]'"
        ) from None
    home = targets[0].rpartition(":")[0]
    loss: Any = torch.nn.functional.cross_entropy
    if asked.loss is not None:
        loss = _named(asked.loss, home)
        loss = loss() if inspect.isclass(loss) else loss
    forward = None if asked.forward is None else _named(asked.forward, home)
    evaluation, training = _batches(asked, settings, home)
    many: list[tuple[str, Path | None]] = [(target, None) for target in targets]
    if asked.weights:
        repeated = targets * len(asked.weights) if len(targets) == 1 else targets
        many = list(zip(repeated, asked.weights))
    found = []
    for target, weights in many:
        model = _model(target, settings.seed)
        if weights is not None:
            _load(model, weights)
        network = Network(
            name=target.rpartition(":")[2] if weights is None else weights.stem,
            path=target if weights is None else f"{target} {weights}",
            model=model,
            loss=loss,
            evaluation=evaluation,
            training=training,
            dtype=getattr(torch, asked.dtype),
            forward=forward,
        )
        _try(network)
        found.append(network)
    return found


def _named(target: str, home: str) -> Any:
    """What is called so: FILE.py:NAME, package.module:NAME, or NAME in the network's own file."""
    from rsam_ref.conformance.observe.load import load
    from rsam_ref.conformance.observe.observer import BrokenError

    try:
        return load(target if ":" in target else f"{home}:{target}")
    except BrokenError as error:
        raise NetworkError(str(error)) from None


def _model(target: str, seed: int) -> Any:
    """A model, or what a function or a class without arguments makes."""
    import torch

    made = _named(target, "")
    if not isinstance(made, torch.nn.Module):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = _called(made, target)
    if not isinstance(made, torch.nn.Module):
        raise NetworkError(f"{target} gives a {type(made).__name__}, not a torch.nn.Module")
    return made


def _called(function: Any, target: str) -> Any:
    try:
        return function()
    except Exception as error:
        raise NetworkError(
            f"{target} could not be called without arguments: {_one_line(error)}"
        ) from None


def _load(model: Any, weights: Path) -> None:
    from rsam_ref.pytorch.network import load_state

    if not weights.is_file():
        raise DataError(weights, "no such file; give the weights as safetensors or npz")
    load_state(model, weights)


def _batches(asked: Asked, settings: Any, home: str) -> tuple[list[Any], list[Any]]:
    """The batches of the evaluation loss, and the mini-batches for the inner maximum."""
    if asked.data is not None:
        return _of_data(asked.data, settings, asked.batch_size)
    assert asked.batches is not None
    given = _named(asked.batches, home)
    if callable(given) and not hasattr(given, "__iter__"):
        given = _called(given, asked.batches)
    if not isinstance(given, Iterable):
        raise NetworkError(
            f"{asked.batches} is a {type(given).__name__}: give a loader, a list of batches "
            "(x, y), or a function that returns one"
        )
    found = _first(given, settings.samples, asked.batches)
    return found, found


def _first(given: Any, samples: int, name: str) -> list[Any]:
    """Whole batches, in their order, until they hold so many samples."""
    from rsam_ref.pytorch.batches import as_batches, count_samples

    one = isinstance(given, tuple | dict) or (
        isinstance(given, list) and given and hasattr(given[0], "shape")
    )
    batches: list[Any] = []
    count = 0
    try:
        for batch in as_batches(given) if one else given:
            batches.append(batch)
            count += count_samples(batch)
            if count >= samples:
                break
    except Exception as error:
        raise NetworkError(f"{name} could not be gone through: {_one_line(error)}") from None
    if not batches:
        raise NetworkError(f"{name} holds no batch")
    return batches


def _of_data(where: str, settings: Any, size: int) -> tuple[list[Any], list[Any]]:
    """Training samples as a run of ours is measured on, chosen by the seed, ``size`` at a time."""
    from itertools import islice

    from rsam_backends import Stream
    from rsam_ref.data import load_dataset
    from rsam_ref.data.feed import batches

    train = load_dataset(where if where == "digits" else Path(where), seed=settings.seed).train
    index = Stream("samples", settings.seed).permutation(len(train))[: settings.samples]
    parts = [index[start : start + size] for start in range(0, len(index), size)]
    order = list(islice(batches(len(train), size, settings.seed, 0), settings.batches))
    evaluation, training = (
        [_tensors(train.take(part), train.labels[part]) for part in chosen]
        for chosen in (parts, order)
    )
    return evaluation, training


def _tensors(*arrays: Any) -> tuple[Any, ...]:
    import torch

    return tuple(torch.as_tensor(array) for array in arrays)


def _try(network: Any) -> None:
    """Compute the loss once; whatever goes wrong in the model is told in one line."""
    try:
        network.loss_at_weights  # noqa: B018 - computed, and kept
    except ArithmeticError as error:
        raise NetworkError(str(error)) from None
    except Exception as error:
        raise NetworkError(f"{network.path} could not be run: {_one_line(error)}") from None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
