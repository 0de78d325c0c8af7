"""The objective of a mini-batch that is computed in parts: one after the other, or at once.

Loss and gradient are those of the whole mini-batch, so SAM and R-SAM take the step that they would
take on it: the ascent follows the mean gradient over all parts, not each part its own.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from rsam_backends.base import Array
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import LossAndGradient, Objective, added_up
from rsam_ref.nn.shards import Shard, run_in_threads
from rsam_ref.nn.weights import Weights


class Accumulated(Objective):
    """One part after the other, for mini-batches that are too large for the memory.

    Batch norm's statistics are each part's own, and the running ones move once a part: with batch
    norm this is not quite the step on the whole mini-batch.
    """

    def __init__(
        self, model: Module, x: Any, y: Any, loss: Callable[..., Tensor], seeds: Sequence[int]
    ) -> None:
        """As many parts as ``seeds``, which name their dropout masks."""
        n, k = len(x), len(seeds)
        if not 1 <= k <= n:
            raise ValueError(f"a mini-batch of {n} cannot be shared out in {k} parts")
        cuts = [n * i // k for i in range(k + 1)]
        self.model = model
        self.shapes = model.weights.shapes
        self.parts = [
            Objective(own, x[start:end], y[start:end], loss, seed, share=(end - start) / n)
            for own, seed, (start, end) in zip(self.models(k), seeds, itertools.pairwise(cuts))
        ]

    def models(self, k: int) -> Sequence[Module]:
        """The model of each part."""
        return [self.model] * k

    def begin_step(self) -> None:
        """A new step begins, for every part."""
        for part in self.parts:
            part.begin_step()

    def abandon_step(self) -> None:
        """The step failed: all parts are as they were when it began."""
        for part in self.parts:
            part.abandon_step()

    def samples(self, count: int) -> list[Objective]:
        """As of an `Objective`: the first samples of the whole mini-batch."""
        found: list[Objective] = []
        for part in self.parts:
            found += part.samples(count - len(found))
        return found

    def results(self, w: Array) -> Iterable[LossAndGradient]:
        """Every part's loss and gradient (P,) at w, multiplied by its share."""
        return (part(w) for part in self.parts)

    def __call__(self, w: Array) -> LossAndGradient:
        """Loss and gradient (P,) of the whole mini-batch at w."""
        return added_up(self.results(w))

    def first_not_finite(self, w: Array) -> str | None:
        """As of an `Objective`: of the first part that has such a value."""
        return next(filter(None, (part.first_not_finite(w) for part in self.parts)), None)


class Sharded(Accumulated):
    """All parts at once, each in a thread, with batch norm's statistics over all of them.

    Each thread has a replica of the model: other modules, looking at the same weights. The model
    itself is the first, and the only one whose running statistics count.
    """

    def models(self, k: int) -> Sequence[Module]:
        """The model and its replicas, in the model's mode and with its buffers."""
        weights, replicas = _replicas.get(self.model, (None, []))
        if weights is not self.model.weights:  # no replicas yet, or the model was built anew
            replicas = []
            _replicas[self.model] = self.model.weights, replicas
        while len(replicas) < k - 1:
            replica = copy.deepcopy(self.model)
            replica.weights.flat = self.model.weights.flat
            replicas.append(replica)
        for replica in replicas:
            _follow(replica, self.model)
        return [self.model, *replicas[: k - 1]]

    def results(self, w: Array) -> Iterable[LossAndGradient]:
        """Every part's loss and gradient (P,) at w, all computed at once."""

        def work(part: Objective, shard: Shard) -> LossAndGradient:
            part.shard = shard
            return part(w)

        works = [partial(work, part) for part in self.parts]
        return run_in_threads(works, [part.share for part in self.parts])


_replicas: WeakKeyDictionary[Module, tuple[Weights, list[Module]]] = WeakKeyDictionary()


def _follow(replica: Module, model: Module) -> None:
    """Give a replica's modules the buffers and the numbers (modes, dropout's p) of the model's."""
    for own, theirs in zip(replica.modules().values(), model.modules().values()):
        for name, value in vars(theirs).items():
            if name in theirs.buffers or isinstance(value, (bool, int, float)):
                setattr(own, name, value)
