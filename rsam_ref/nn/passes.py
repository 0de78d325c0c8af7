"""How the forward pass under way is to be run: an objective says it, layers read it.

What holds is one `Pass`, this thread's own; `passing` changes it for a block, and only for that.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from rsam_backends import Stream
from rsam_ref.nn.shards import Shard


class Pass(NamedTuple):
    """What layers ask of a forward pass."""

    move_statistics: bool = True
    """Whether batch norm's running statistics follow this batch."""
    stream: Stream | None = None
    """Where dropout's masks come from."""
    guarded: bool = True
    """Whether to check that the weights stay as they are until backward."""
    model: Any = None
    """The whole model whose forward is under way."""
    shard: Shard | None = None
    """Which shard of the mini-batch this is, where there are others."""


class _Here(threading.local):
    now = Pass()


_here = _Here()


def current_pass() -> Pass:
    """The pass that is under way in this thread."""
    return _here.now


class passing:  # noqa: N801 - used as a block
    """In this block the pass under way has these values; then it is what it was before."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def __enter__(self) -> Pass:
        self._before = _here.now
        _here.now = self._before._replace(**self._values)
        return _here.now

    def __exit__(self, *error: object) -> None:
        _here.now = self._before


def frozen_statistics() -> passing:
    """A block in which batch norm's running statistics stay as they are."""
    return passing(move_statistics=False)
