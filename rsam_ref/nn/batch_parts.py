"""The objective of a mini-batch that is computed in parts: one after the other, or at once.

Loss and gradient are those of the whole mini-batch, so SAM and R-SAM take the step that they would
take on it: the ascent follows the mean gradient over all parts, not each part its own.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from rsam_backends.base import Array
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import LossAndGradient, Objective, added_up
from rsam_ref.nn.shards import ONE_PROCESS, Group, Shard, bounds, run_in_threads
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
        cuts = bounds(len(x), len(seeds))
        self.model = model
        self.shapes = model.weights.shapes
        self.parts = [
            Objective(model, x[start:end], y[start:end], loss, seed, share=(end - start) / len(x))
            for seed, (start, end) in zip(seeds, itertools.pairwise(cuts))
        ]

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

    def __call__(self, w: Array) -> LossAndGradient:
        """Loss and gradient (P,) of the whole mini-batch at w."""
        return added_up(part(w) for part in self.parts)

    def first_not_finite(self, w: Array) -> str | None:
        """As of an `Objective`: of the first part that has such a value."""
        return next(filter(None, (part.first_not_finite(w) for part in self.parts)), None)


class Sharded(Accumulated):
    """All parts at once, each in a thread, with batch norm's statistics over all of them.

    Each thread has a replica of the model: other modules, looking at the same weights. The model
    itself is the first, and the only one whose running statistics count.

    Of a ``group`` that other processes are in too, these are the parts of this one.
    """

    def __init__(
        self,
        model: Module,
        x: Any,
        y: Any,
        loss: Callable[..., Tensor],
        seeds: Sequence[int],
        group: Group = ONE_PROCESS,
        whole: int | None = None,
    ) -> None:
        """As many parts as ``seeds``, over all processes, of a mini-batch of ``whole`` samples.

        x and y are those of this process's parts (all of them, if it has all).
        """
        n, own = len(x) if whole is None else whole, group.own(len(seeds))
        cuts = bounds(n, len(seeds))
        self.model = model
        self.shapes = model.weights.shapes
        self.group = group
        first = cuts[own.start]
        self.parts = []
        for replica, i in zip(replicas(model, len(own)), own):
            part = slice(cuts[i] - first, cuts[i + 1] - first)
            share = (cuts[i + 1] - cuts[i]) / n
            self.parts.append(Objective(replica, x[part], y[part], loss, seeds[i], share))

    def __call__(self, w: Array) -> LossAndGradient:
        """Loss and gradient (P,) of the whole mini-batch at w; all parts are computed at once."""

        def work(part: Objective, shard: Shard) -> LossAndGradient:
            part.shard = shard
            return part(w)

        works = [partial(work, part) for part in self.parts]
        results = run_in_threads(works, [part.share for part in self.parts], self.group)
        loss, gradient = self.group.sum(results)
        return loss, gradient

    def first_not_finite(self, w: Array) -> str | None:
        """As of an `Objective`: of the first part that has such a value, in whichever process."""
        return self.group.first(super().first_not_finite(w))


def replicas(model: Module, k: int) -> list[Module]:
    """The model and k - 1 replicas, all in the model's mode and with its buffers."""
    weights, found = _replicas.get(model, (None, []))
    if weights is not model.weights:  # no replicas yet, or the model was built anew
        found = []
        _replicas[model] = model.weights, found
    while len(found) < k - 1:
        replica = copy.deepcopy(model)
        replica.weights.flat = model.weights.flat
        found.append(replica)
    for replica in found:
        _follow(replica, model)
    return [model, *found[: k - 1]]


_replicas: WeakKeyDictionary[Module, tuple[Weights, list[Module]]] = WeakKeyDictionary()


def _follow(replica: Module, model: Module) -> None:
    """Give a replica's modules the buffers and the numbers (modes, dropout's p) of the model's."""
    for own, theirs in zip(replica.modules().values(), model.modules().values()):
        for name, value in vars(theirs).items():
            if name in theirs.buffers or isinstance(value, (bool, int, float)):
                setattr(own, name, value)
