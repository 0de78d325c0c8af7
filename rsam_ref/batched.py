"""A mean loss over the samples of batches, which can be asked of others, or of parts of them.

What a batch is, and where it is computed, says the library that it is for.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self


class Batched(ABC):
    """A loss of weights on batches, each of which counts by its samples."""

    _batches: list[Any]
    _shares: list[float]
    count: int
    """What its batches count together."""

    @property
    @abstractmethod
    def w(self) -> Any:
        """The weights as they are now, a new vector (P,)."""

    @abstractmethod
    def loss(self, w: Any) -> Any:
        """The loss at w."""

    @abstractmethod
    def _read(self, given: Any) -> list[Any]:
        """Batches as users have them, as a list."""

    @abstractmethod
    def _placed(self, batch: Any) -> Any:
        """A batch where the loss is computed, in its precision."""

    @abstractmethod
    def _weight(self, batch: Any) -> int:
        """How much a batch counts."""

    @abstractmethod
    def _samples(self, batch: Any) -> int:
        """How many samples a batch holds."""

    @abstractmethod
    def _dealt(self, count: int) -> list[list[Any]] | None:
        """The samples as `dealt` deals them."""

    def _take(self, given: Any) -> None:
        self._batches = [self._placed(batch) for batch in self._read(given)]
        counts = [self._weight(batch) for batch in self._batches]
        if not all(count > 0 for count in counts):
            raise ValueError(
                f"a batch counts {min(counts)} samples, and then it has no mean loss: leave it out"
            )
        self.count = sum(counts)
        self._shares = [n / self.count for n in counts]

    def on(self, batches: Any) -> Self:
        """The same loss, on other batches."""
        other = copy.copy(self)
        other._take(batches)
        return other

    def parts(self, count: int) -> list[Self] | None:
        """The loss on disjoint parts of the samples, equally large but for one sample.

        None where samples cannot be told apart: where the arrays of a batch have different lengths,
        where the loss cannot be had of halves, or where the mean of theirs is not the mean over
        all.
        """
        parts = self._dealt(count)
        if parts is None:
            return None
        whole = float(self.loss(self.w))
        halves = self._halves()
        if halves is None:
            return None
        mean = sum(n * loss for n, loss in halves) / sum(n for n, _ in halves)
        if not abs(mean - whole) <= 1e-4 * abs(whole):
            return None
        return [self.on(part) for part in parts]

    def refuse_a_sum(self) -> None:
        """Raise ValueError where the loss of a batch is the sum of its halves' and not their mean.

        A batch whose samples cannot be told apart says nothing.
        """
        first = self.on(self._batches[:1])
        whole, halves = float(first.loss(self.w)), first._halves()
        if halves is None or len(halves) < 2:
            return
        together = sum(loss for _, loss in halves)
        if whole and abs(together - whole) <= 1e-5 * abs(whole):
            raise ValueError(
                "the loss is the sum over a batch's samples, and flatness is that of a mean: leave "
                "reduction='sum' away, or divide by the number of samples"
            )

    def _halves(self) -> list[tuple[int, float]] | None:
        """How many samples either half of them has, and the loss on it; None where that fails."""
        halves, w = self._dealt(2), self.w
        if halves is None:
            return None
        try:
            return [
                (sum(map(self._samples, half)), float(self.on(half).loss(w))) for half in halves
            ]
        except Exception:  # whatever the user's own code raises
            return None

    def by_batch(self, count: int) -> list[Self]:
        """The loss on disjoint parts that are whole batches, fewer where there are not as many."""
        count = min(count, len(self._batches))
        return [self.on(self._batches[i::count]) for i in range(count)]


def dealt(
    batches: Sequence[Any],
    count: int,
    lengths_in: Callable[[Any], set[int]],
    every: Callable[[Any, int, int], Any],
    joined: Callable[[Any, Any], Any | None],
) -> list[list[Any]] | None:
    """The samples of batches, one by one, to as many parts, each a list of smaller batches.

    ``lengths_in(batch)`` are those of its arrays, ``every(batch, first, step)`` the batch of some
    of its samples, ``joined(batch, other)`` one of the samples of both, or None. What a part has of
    several batches becomes one where that is no larger than the largest: many small batches take
    longer. Fewer parts where there are fewer samples; None where the arrays of a batch differ in
    length.
    """
    sizes: list[int] = []
    for batch in batches:
        lengths = lengths_in(batch)
        if len(lengths) != 1:
            return None
        sizes += lengths
    parts: list[list[Any]] = [[] for _ in range(min(count, sum(sizes)))]
    start = 0
    for batch, size in zip(batches, sizes):
        for i, part in enumerate(parts):
            first = (i - start) % len(parts)
            if first < size:
                own = every(batch, first, len(parts))
                whole = joined(part[-1], own) if part else None
                if whole is None or max(lengths_in(whole)) > max(sizes):
                    part.append(own)
                else:
                    part[-1] = whole
        start += size
    return parts
