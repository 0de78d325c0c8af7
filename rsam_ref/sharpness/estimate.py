"""A mean over draws, with how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rsam_ref.training.statistics import student


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of n independent values and its standard error (nan for n = 1)."""

    mean: float
    standard_error: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Estimate:
        """The estimate from independent values; ValueError where there are none."""
        values = list(values)
        n = len(values)
        if n == 0:
            raise ValueError("a mean needs at least one value")
        mean = math.fsum(values) / n
        if n == 1:
            return cls(mean, math.nan, 1)
        variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
        return cls(mean, math.sqrt(variance / n), n)

    @property
    def interval(self) -> tuple[float, float]:
        """Student's 95 % interval of the mean; nan, nan for n = 1."""
        if self.n == 1:
            return math.nan, math.nan
        half = student(self.n) * self.standard_error
        return self.mean - half, self.mean + half
