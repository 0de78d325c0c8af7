"""A mini-batch on several workers, of which each looks at its own samples alone: m-sharpness.

A worker is a shard, or one of several groups of m samples in it, which take turns. Each is an
objective of its own: the mean loss over its samples, with batch norm's statistics over them. What
the workers find is averaged once, at the end of the step, each worker by its share of the samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from rsam_backends.base import Array
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.nn.batch_parts import Accumulated, replicas
from rsam_ref.nn.module import Module
from rsam_ref.nn.objective import LossAndGradient, Objective
from rsam_ref.nn.shards import ONE_PROCESS, Group, Shard, bounds, run_in_threads

Find = Callable[[int, Objective], tuple[Sequence[Array], Sequence[Array]]]
"""What a worker does, by its number and objective: what is averaged, and how far from w it was."""


def cuts_of_workers(n: int, shards: int, m: int | None) -> list[list[int]]:
    """Of each shard, where in the mini-batch of n samples its workers begin, and its end.

    Groups are as equal as they can be: 9 samples in groups of at most 4 are three of 3.
    """
    found = []
    for start, end in itertools.pairwise(bounds(n, shards)):
        inner = bounds(end - start, math.ceil((end - start) / (m or n)))
        found.append([start + cut for cut in inner])
    return found


def sizes_of_workers(n: int, shards: int, m: int | None) -> list[int]:
    """How many of n samples each worker has."""
    return [b - a for cuts in cuts_of_workers(n, shards, m) for a, b in itertools.pairwise(cuts)]


class Worker(NamedTuple):
    """Its number among all, its share of the mini-batch, and its own mean loss."""

    number: int
    share: float
    objective: Objective


class Workers(Accumulated):
    """The workers of this process; with a ``group`` there are others elsewhere.

    Batch norm's running statistics become the mean of the workers'.
    """

    def __init__(
        self,
        model: Module,
        x: Any,
        y: Any,
        loss: Callable[..., Tensor],
        seeds: Callable[[int], int],
        shards: int,
        m: int | None = None,
        group: Group = ONE_PROCESS,
        whole: int | None = None,
    ) -> None:
        """In ``shards``, and these in groups of at most ``m`` samples; None for a shard each.

        ``seeds(number)`` names a worker's dropout masks. x, y and ``whole`` are as in `Sharded`.
        """
        n, own = len(x) if whole is None else whole, group.own(shards)
        cuts = cuts_of_workers(n, shards, m)
        first = cuts[own.start][0]
        self.model = model
        self.shapes = model.weights.shapes
        self.group = group
        self.shards: list[list[Worker]] = []
        models = iter(replicas(model, len(own)))
        number = 0
        for i, inner in enumerate(cuts):
            if i in own:
                replica = next(models)
                workers = []
                for j, (a, b) in enumerate(itertools.pairwise(inner), number):
                    part = slice(a - first, b - first)
                    objective = Objective(replica, x[part], y[part], loss, seeds(j))
                    workers.append(Worker(j, (b - a) / n, objective))
                self.shards.append(workers)
            number += len(inner) - 1
        self.parts = [worker.objective for workers in self.shards for worker in workers]
        self._places: list[tuple[Objective, Array]] = []

    def __call__(self, w: Array) -> LossAndGradient:
        """The means of all workers' losses and gradients (P,) at w."""
        loss, gradient = self.of_workers(lambda _, own: (own(w), ()))
        return loss, gradient

    def of_workers(self, find: Find) -> tuple[Array, ...]:
        """The means over all workers of what ``find`` gives, each worker by its share."""
        self._places = []
        works = [partial(self._shard, find, workers) for workers in self.shards]
        results = run_in_threads(works, [1.0] * len(works), self.group)
        means = self.group.sum(results)
        buffers = self.model.buffer_values()
        found = len(means) - len(buffers)
        for (module, name, _), value in zip(buffers, means[found:]):
            setattr(module, name, value)
        return means[:found]

    def _shard(self, find: Find, workers: Sequence[Worker], shard: Shard) -> tuple[Array, ...]:
        """The shares of a shard's workers, added up; the running statistics come last."""
        before = workers[0].objective.model.buffer_values()
        total: list[Array] = []
        for number, share, objective in workers:
            for module, name, value in before:
                setattr(module, name, value)
            found, moves = find(number, objective)
            self._places += [(objective, move) for move in moves]
            buffers = [value for _, _, value in objective.model.buffer_values()]
            scaled = [share * value for value in (*found, *buffers)]
            total = [a + b for a, b in zip(total, scaled)] if total else scaled
        return tuple(total)

    def first_not_finite(self, w: Array) -> str | None:
        """As of an `Objective`, at w and where the workers last looked from there."""
        places = [(part, w) for part in self.parts]
        places += [(part, w + move) for part, move in self._places]
        found = (part.first_not_finite(place) for part, place in places)
        return self.group.first(next(filter(None, found), None))
