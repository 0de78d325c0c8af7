"""Means, spreads, and when a difference is within noise."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A mean difference of two methods over seeds, with its 95 % t-interval."""

    mean: float
    low: float
    high: float

    @property
    def within_noise(self) -> bool:
        """Whether 0 lies in the interval (or there are too few seeds for one)."""
        return not (self.low > 0 or self.high < 0)


def paired_interval(a: list[float], b: list[float]) -> Interval:
    """The mean of a - b, pair by pair, with Student's 95 % interval."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    n = len(differences)
    centre = mean(differences)
    if n < 2:
        return Interval(centre, -math.inf, math.inf)
    deviation = math.sqrt(math.fsum((d - centre) ** 2 for d in differences) / (n - 1))
    half = student(n) * deviation / math.sqrt(n)
    return Interval(centre, centre - half, centre + half)


def interval_of(values: list[float]) -> tuple[float, float | None]:
    """The mean, and half of Student's 95 % interval for it; None for one value or infinite ones."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return mean(values), None
    return mean(values), student(len(values)) * spread(values) / math.sqrt(len(values))


def student(n: int) -> float:
    """Half of Student's 95 % interval of a mean of n values, in standard errors."""
    from scipy.special import stdtrit  # Student's quantiles, without all of scipy.stats

    return float(stdtrit(n - 1, 0.975))


def mean(values: list[float]) -> float:
    """The mean."""
    return math.fsum(values) / len(values)


def spread(values: list[float]) -> float:
    """The standard deviation over seeds; 0 for a single one."""
    if len(values) < 2:
        return 0.0
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))
