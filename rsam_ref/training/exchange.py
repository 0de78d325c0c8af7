"""Weights from elsewhere, and for elsewhere: names are PyTorch's, so a state needs no translation.

`load_weights` reads them into a model; `for_pytorch` and `describe` are what another program takes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from rsam_backends import to_host, xp
from rsam_ref.data.errors import DataError
from rsam_ref.data.weight_files import read_weights
from rsam_ref.models.elsewhere import in_pytorch
from rsam_ref.nn.layers import BatchNorm2d
from rsam_ref.nn.module import Module, common_prefix
from rsam_ref.training import checkpoint
from rsam_ref.training.trained import Trained, weights_of_a_run


class Loaded(NamedTuple):
    """What was done with weights that were read into a model."""

    prefix: str
    """What stood before every name in the file; mostly nothing."""
    new: tuple[str, ...]
    """The tensors of the last layer that kept their first weights, as it has other classes."""


def load_weights(model: Module, where: str | Path, *, new_head: bool = False) -> Loaded:
    """Read weights into a model.

    Parameters
    ----------
    model:
        is changed in place; its parameters keep their precision.
    where:
        a safetensors or npz file whose names are those of the model, perhaps behind one prefix
        that all of them have, such as ``module.``; a run's folder, or one of its checkpoints.
    new_head:
        Let a last layer of another number of outputs keep its first weights; else it is an error.

    Raises DataError, with one line, for files that cannot be read or do not fit.
    """
    path = Path(where)
    if not path.exists():
        raise DataError(path, "no such file or folder; give weights, or a run of rsam-ref train")
    arrays = weights_of_a_run(path) if path.is_dir() else read_weights(path)
    if any(name.startswith("optimizer.") for name in arrays):  # a checkpoint
        arrays = checkpoint.of_the_model(arrays)
    own = model.state_dict()
    prefix = common_prefix(list(arrays), list(own))
    state = {name.removeprefix(prefix): array for name, array in arrays.items()}
    new = _head_of_others(model, state) if new_head else ()
    try:
        model.load_state_dict(state | {name: own[name] for name in new})
    except (KeyError, ValueError) as error:
        raise DataError(path, error.args[0]) from None
    return Loaded(prefix, new)


def _head_of_others(model: Module, state: dict[str, Any]) -> tuple[str, ...]:
    """The last layer's tensors, where the state has all of them with another number of outputs."""
    last = model.weights.names[-1].rpartition(".")[0]
    names = [name for name in model.weights.names if name.rpartition(".")[0] == last]
    shapes = dict(zip(model.weights.names, model.weights.shapes))
    other = [
        name
        for name in names
        if name in state
        and state[name].shape[1:] == shapes[name][1:]
        and state[name].shape[:1] != shapes[name][:1]
    ]
    return tuple(names) if other == names else ()


def for_pytorch(trained: Trained) -> dict[str, Any]:
    """A trained model's state as PyTorch has it: in its order, with batch norm's counters.

    These count the batches that the statistics have seen, a mini-batch's parts one by one.
    """
    batches = steps_of(trained) * trained.recipe.accumulate
    model, state = trained.model, trained.model.state_dict()
    whole: dict[str, Any] = {}
    for prefix, module in model.modules().items():
        start = f"{prefix}." if prefix else ""
        own = [name for name in state if name.startswith(start) and "." not in name[len(start) :]]
        whole |= {name: state[name] for name in own}
        if isinstance(module, BatchNorm2d):
            whole[f"{start}num_batches_tracked"] = to_host(xp.asarray(batches, dtype="int64"))
    return whole


def describe(trained: Trained) -> dict[str, Any]:
    """What another program must know besides the weights; plain values."""
    settings, data = trained.recipe, trained.data
    mean, std = data.train.normalisation
    return {
        "model": settings.model,
        "model_options": settings.model_options,
        "data": data.name,
        "classes": list(data.classes),
        "shape": list(data.shape),
        "mean": mean,
        "std": std,
        "step": steps_of(trained),
        "pytorch": in_pytorch(
            settings.model,
            shape=data.shape,
            classes=len(data.classes),
            options=settings.model_options,
        ),
    }


def steps_of(trained: Trained) -> int:
    """The steps that a model was trained for."""
    if trained.step is not None:
        return trained.step
    per_epoch = math.ceil(len(trained.data.train) / trained.recipe.batch_size)
    return trained.recipe.epochs * per_epoch
