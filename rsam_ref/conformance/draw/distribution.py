"""From which distribution z comes: a test of fit against the Gaussian, and a name for another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special

from rsam_ref.conformance.draw.draws import DEVIATIONS, Draws, Found

FAR = 3.6
"""Kolmogorov's distance times the root of the number: Gaussian ones exceed it once in 10^11."""

NEAR = 2.5
"""A distribution that is no further than this from the draws may give them their name."""

Cdf = Callable[[np.ndarray], np.ndarray]


def judge_distribution(z: np.ndarray, repeated: bool) -> list[Found]:
    """What is wrong with the numbers z (n,), whose mean square is about 1.

    ``repeated`` where some of them come more than once: then each tells less.
    """
    n = z.size / (4 if repeated else 1)
    found: list[Found] = []
    mean, spread = float(z.mean()), float(z.std())
    if abs(mean) > DEVIATIONS * max(spread, 1e-12) / np.sqrt(n):
        found.append(("noise.not-centred", {"mean of z": mean, "expected": 0.0}))
    v = (z - mean) / (spread + 1e-300)
    kurtosis = float(np.mean(v**4))
    distance = _distance(np.sort(v), special.ndtr)
    far = distance * np.sqrt(n) > FAR
    if far or abs(_as_normal(kurtosis, n)) > DEVIATIONS:
        evidence: dict[str, Any] = {
            "distribution": _name(z, mean, spread),
            "kurtosis of z": kurtosis,
            "a Gaussian's": 3.0,
            "Kolmogorov's distance from a Gaussian": distance,
        }
        found.append(("noise.not-gaussian", evidence))
    return found


def zero_sums(draws: Draws, z: np.ndarray) -> Found | None:
    """Whether the numbers of every filter, or of every tensor, add up to 0: their mean was taken
    off. z: (steps, P).

    One sum is so small by chance once in ten thousand times, and there are a dozen at least.
    """
    problem = draws.problem
    filters = [at for at in problem.filters() if not problem.one_axis[at.start]]
    for what, parts in (("filter", filters), ("tensor", problem.slices)):
        runs = [row[at] for row in z for at in parts if at.stop - at.start > 3 and row[at].any()]
        sums = [abs(float(v.sum())) / np.linalg.norm(v) for v in runs]
        if len(sums) >= ENOUGH and max(sums) < NOTHING:
            return "noise.not-gaussian", {f"the numbers of each {what} add up to": 0.0}
    return None


ENOUGH, NOTHING = 12, 1e-4
"""So many sums that are smaller than this, in terms of a Gaussian's spread, are 0 by design."""


def kurtosis_of(z: np.ndarray) -> float:
    v = z - z.mean()
    return float(np.mean(v**4) / (np.mean(v**2) ** 2 + 1e-300))


def _as_normal(kurtosis: float, n: float) -> float:
    """The kurtosis of a Gaussian sample as a standard normal number (Anscombe and Glynn)."""
    n = max(n, 20.0)
    mean = 3 * (n - 1) / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (kurtosis - mean) / np.sqrt(variance)
    skew = 6 * (n * n - 5 * n + 2) / ((n + 7) * (n + 9))
    skew *= np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / skew * (2 / skew + np.sqrt(1 + 4 / skew**2))
    under = (1 - 2 / a) / max(1 + x * np.sqrt(2 / (a - 4)), 1e-12)
    return float((1 - 2 / (9 * a) - np.cbrt(under)) / np.sqrt(2 / (9 * a)))


def _distance(ordered: np.ndarray, cdf: Cdf) -> float:
    """Kolmogorov's: the largest difference of the shares below any number."""
    p = cdf(ordered)
    n = ordered.size
    steps = np.arange(n + 1) / n
    return float(max(np.max(steps[1:] - p), np.max(p - steps[:-1])))


def _name(z: np.ndarray, mean: float, spread: float) -> str:
    """What the distribution is called, or that it has no name here."""
    values = np.unique(np.round(z, 5))
    if values.size <= 12:
        if values.size == 2 and abs(values[0] + values[1]) < 1e-3:
            return "Rademacher: one of two values, with either sign"
        return f"one of {values.size} values"
    largest = np.abs(z).max()
    share = float(np.mean(np.abs(z) > largest * (1 - 1e-6)))
    if share > 5 / z.size:
        return f"clipped at {largest:.3g}: {100 * share:.2g} % of the numbers are there"
    v = np.sort((z - mean) / (spread + 1e-300))
    best = min(((_distance(v, cdf), label) for label, cdf in _candidates(v)), key=lambda c: c[0])
    if best[0] * np.sqrt(z.size) < NEAR:
        return best[1]
    return f"on no list, nearest: {best[1]} (Kolmogorov's distance {best[0]:.2g})"


def _candidates(v: np.ndarray) -> Iterator[tuple[str, Cdf]]:
    """Distributions with mean 0 and variance 1."""
    root = np.sqrt
    yield "Gaussian", special.ndtr
    yield "uniform", lambda x: np.clip(0.5 + x / root(12), 0, 1)
    yield (
        "Laplace",
        lambda x: np.where(
            x < 0,
            0.5 * np.exp(root(2) * np.minimum(x, 0)),
            1 - 0.5 * np.exp(-root(2) * np.maximum(x, 0)),
        ),
    )
    yield "logistic", lambda x: special.expit(x * np.pi / root(3))
    yield (
        "triangular",
        lambda x: np.where(
            x < 0,
            0.5 * np.clip(1 + x / root(6), 0, 1) ** 2,
            1 - 0.5 * np.clip(1 - x / root(6), 0, 1) ** 2,
        ),
    )
    for freedom in (2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0):
        yield f"Student's t with {freedom:g} degrees of freedom", _student(freedom)
    for cut in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5):
        yield f"Gaussian cut off at {cut:g} standard deviations", _cut_off(cut)
    half = root(1 - 2 / np.pi)
    one_sided: list[tuple[str, Cdf]] = [
        (
            "half-normal: |z|",
            lambda x: special.erf(np.maximum(x * half + root(2 / np.pi), 0) / root(2)),
        ),
        ("exponential", lambda x: 1 - np.exp(-np.maximum(x + 1, 0))),
        ("z^2", lambda x: special.gammainc(0.5, np.maximum(x * root(2) + 1, 0) / 2)),
    ]
    for label, cdf in one_sided:
        yield label, cdf
        yield f"{label}, with a minus", _mirrored(cdf)


def _student(freedom: float) -> Cdf:
    deviation = np.sqrt(freedom / (freedom - 2))
    return lambda x: special.stdtr(freedom, x * deviation)


def _cut_off(cut: float) -> Cdf:
    inside = special.ndtr(cut) - special.ndtr(-cut)
    density = np.exp(-cut * cut / 2) / np.sqrt(2 * np.pi)
    deviation = np.sqrt(1 - 2 * cut * density / inside)
    return lambda x: np.clip((special.ndtr(x * deviation) - special.ndtr(-cut)) / inside, 0, 1)


def _mirrored(cdf: Cdf) -> Cdf:
    return lambda x: 1 - cdf(-x)
