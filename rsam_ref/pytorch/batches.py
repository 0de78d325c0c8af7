"""Batches as users have them: tuples, lists, dicts, loaders; of tensors or of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from rsam_backends.base import kind_of
from rsam_ref.pytorch.passes import GeneratorStates


def as_batches(given: Any) -> list[Any]:
    """One batch, or what gives several when it is gone through, as a list of batches.

    A tuple and a dict are one batch, and so is a list that begins with a tensor; all else is gone
    through, once. A loader may draw its order: torch's generators are afterwards where they stood.
    """
    if isinstance(given, str | bytes):
        raise TypeError("batches is text: give a batch (x, y), a list of them, or a loader")
    if is_one(given):
        return [tuple(given) if isinstance(given, list) else given]
    stood = GeneratorStates([])
    try:
        batches = list(given)
    except TypeError as error:
        raise TypeError(
            f"batches is {kind_of(given)}: give a batch (x, y), a list of them, or a loader"
        ) from error
    finally:
        stood.put_back()
    if not batches:
        raise ValueError("there are no batches, and a loss needs at least one sample")
    return batches


def is_one(given: Any) -> bool:
    """Whether this is one batch, and not several."""
    if isinstance(given, list):
        return bool(given) and _is_array(given[0])
    return isinstance(given, tuple | Mapping) or _is_array(given)


def count_samples(batch: Any) -> int:
    """How many samples a batch holds: the length of its last tensor, which is mostly the target."""
    found = [tensor for tensor in tensors_in(batch) if tensor.ndim > 0]
    if not found:
        raise ValueError(
            "no tensor in a batch tells how many samples it holds: give count, a function of it"
        )
    return int(found[-1].shape[0])


def lengths_in(batch: Any) -> set[int]:
    """The lengths of a batch's tensors."""
    return {tensor.shape[0] for tensor in tensors_in(batch) if tensor.ndim > 0}


def every(batch: Any, first: int, step: int) -> Any:
    """A batch of some of a batch's samples."""
    return each_tensor(batch, lambda tensor: tensor[first::step] if tensor.ndim > 0 else tensor)


def joined(batch: Any, other: Any) -> Any | None:
    """A batch of the samples of both; None where their tensors do not fit."""
    pairs = list(zip(tensors_in(batch), tensors_in(other)))
    fit = all(a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in pairs)
    if not fit or _rest(batch) != _rest(other):
        return None
    if not all(a.ndim or torch.equal(a, b) for a, b in pairs):
        return None
    whole = iter([torch.cat([a, b]) if a.ndim else a for a, b in pairs])
    return each_tensor(batch, lambda _: next(whole))


def _rest(batch: Any) -> str:
    """All of a batch but its tensors, in words."""
    return repr(each_tensor(batch, lambda _: torch.empty(0)))


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """The tensors of a batch, in their order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for part in batch.values():
            yield from tensors_in(part)
    elif isinstance(batch, list | tuple):
        for part in batch:
            yield from tensors_in(part)


def each_tensor(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The batch with every tensor changed; NumPy's arrays become tensors, all else stays."""
    if isinstance(batch, Tensor):
        return change(batch)
    if hasattr(batch, "__array__"):
        return change(torch.as_tensor(batch))
    if isinstance(batch, Mapping):
        return {name: each_tensor(part, change) for name, part in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(each_tensor(part, change) for part in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(each_tensor(part, change) for part in batch)
    return batch


def _is_array(thing: Any) -> bool:
    return isinstance(thing, Tensor) or hasattr(thing, "__array__")
