"""A training step in several processes: each has a part of every mini-batch and a replica."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rsam_ref.conformance.observe.observer import BrokenError

WAITS = timedelta(seconds=30)
"""How long one process waits for the others."""


@dataclass(frozen=True)
class Workers:
    """This process, ``rank``, among ``count`` of them."""

    rank: int
    count: int
    wraps: bool = True
    """Whether the model is wrapped in DistributedDataParallel."""

    def model(self, net: Any) -> Any:
        """What the training step is given for a model."""
        return torch.nn.parallel.DistributedDataParallel(net) if self.wraps else net

    def part(self, rows: torch.Tensor) -> torch.Tensor:
        """This worker's rows of a mini-batch."""
        return rows[self.rank :: self.count]

    def gathered(self, own: Any) -> list[Any]:
        """What each of them has, in the order of their ranks."""
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, own)
        return found


@contextmanager
def group(rank: int, count: int, place: Path) -> Iterator[None]:
    """Inside, this process belongs to a group of ``count`` on gloo, which meet at a file."""
    if not dist.is_available() or not dist.is_gloo_available():
        raise BrokenError("several processes need torch.distributed with gloo; it is not built in")
    dist.init_process_group(
        "gloo", init_method=place.as_uri(), rank=rank, world_size=count, timeout=WAITS
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def averages_itself(subject: Any) -> bool:
    """Whether its file averages gradients by hand, and asks nothing of a wrapped model."""
    module = sys.modules.get(getattr(subject, "__module__", ""))
    try:
        source = inspect.getsource(module) if module is not None else inspect.getsource(subject)
    except (OSError, TypeError):
        return False
    return "all_reduce" in source and "no_sync" not in source and ".module" not in source
