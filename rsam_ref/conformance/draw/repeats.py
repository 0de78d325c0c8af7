"""Random numbers that come more than once: in other steps, in other tensors, in one tensor again.

All pairs are compared, and both signs: the same draw in every other step, one seeded by the step
number modulo 3, a draw and its negative.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from rsam_ref.conformance.draw.draws import DEVIATIONS, Draws, Found, correlation

SAME = 0.99
"""A correlation above this is that of the same numbers, scaled."""

POOL = 64
"""So many numbers a tensor must have for its being rolled to be told."""

FEWEST = 16
"""So many numbers are needed before two runs of them are called the same."""


def same_in_steps(draws: Draws) -> tuple[Found | None, list[int]]:
    """Whether steps repeat each other's draw, and the steps (by index) that do not."""
    z = draws.unscaled[:, draws.moved]
    z = z / (np.sqrt((z * z).mean(axis=1, keepdims=True)) + 1e-300)
    z = z - z.mean(axis=1, keepdims=True)
    same: list[str] = []
    opposite: list[str] = []
    fresh = list(range(len(z)))
    for i, j in itertools.combinations(range(len(z)), 2):
        r = correlation(z[i], z[j])
        if abs(r) > SAME:
            names = f"{draws.steps[i].number + 1} and {draws.steps[j].number + 1}"
            (same if r > 0 else opposite).append(names)
            if j in fresh:
                fresh.remove(j)
    if same:
        evidence: dict[str, Any] = {"the same draw in steps": _listed(same)}
        if opposite:
            evidence["its negative in steps"] = _listed(opposite)
        return ("noise.same-draw", evidence), fresh
    if opposite:
        return (
            "noise.correlated",
            {"the negative of each other in steps": _listed(opposite)},
        ), fresh
    return None, fresh


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more pairs" if len(names) > 4 else "")


def correlated_steps(steps: list[int], z: np.ndarray) -> Found | None:
    """The pair of steps whose draws are most correlated, if that is beyond chance.

    The sum of products is measured by the root of their sum of squares: under independent signs
    that is at most as often large as a Gaussian is, whatever the scales are.
    """
    z = z - z.mean(axis=1, keepdims=True)
    worst: tuple[float, str, float] | None = None
    for i, j in itertools.combinations(range(len(z)), 2):
        products = z[i] * z[j]
        size = float(abs(products.sum()) / (np.sqrt((products**2).sum()) + 1e-300))
        if size > DEVIATIONS and (worst is None or size > worst[0]):
            worst = size, f"{steps[i] + 1} and {steps[j] + 1}", correlation(z[i], z[j])
    if worst is None:
        return None
    evidence = {
        "steps": worst[1],
        "correlation of their draws": worst[2],
        "standard errors": worst[0],
    }
    return "noise.correlated", evidence


def shifted_steps(draws: Draws, z: np.ndarray) -> Found | None:
    """Whether a step's numbers are those of the step before, some places further, in all weights or
    in every larger tensor: one pool of numbers that is rolled. z: (steps, P).
    """
    problem = draws.problem
    tensors = [at for at in problem.slices if at.stop - at.start >= POOL]
    for parts, of in (([slice(0, z.shape[1])], "all weights"), (tensors, "each tensor")):
        for t in range(1, len(z)):
            shifts = [_shift(z[t - 1, at], z[t, at]) for at in parts]
            if parts and all(shifts):
                steps = f"{draws.steps[t - 1].number + 1} and {draws.steps[t].number + 1}"
                places = ", ".join(str(shift) for shift in dict.fromkeys(shifts))
                evidence = {"the same numbers in steps": steps, "of": of, "further by": places}
                return "noise.same-draw", evidence
    return None


def _shift(a: np.ndarray, b: np.ndarray) -> int:
    """By how many places a must be rolled to be b, up to a factor; 0 where by none."""
    along = np.fft.irfft(np.fft.rfft(b) * np.fft.rfft(a).conj(), a.size)
    place = int(np.argmax(np.abs(along)))
    same = abs(along[place]) > SAME * np.sqrt((a @ a) * (b @ b)) and a.any()
    return place if same else 0


def same_in_tensors(draws: Draws, z: np.ndarray) -> Found | None:
    """Whether two tensors begin with the same numbers, in one step or in different ones."""
    problem = draws.problem
    alike: list[str] = []
    for (i, a), (j, b) in itertools.combinations(enumerate(problem.slices), 2):
        size = min(a.stop - a.start, b.stop - b.start)
        first, second = z[:, a][:, :size], z[:, b][:, :size]
        if size * len(z) < FEWEST or not first.any() or not second.any():
            continue
        names = f"{problem.names[i]} and {problem.names[j]}"
        if size >= 5 and abs(correlation(first.ravel(), second.ravel())) > SAME:
            alike.append(names)
        elif size >= FEWEST:
            for t, u in itertools.permutations(range(len(z)), 2):
                if abs(correlation(first[t], second[u])) > SAME:
                    steps = draws.steps[t].number + 1, draws.steps[u].number + 1
                    alike.append(f"{names} (in steps {steps[0]} and {steps[1]})")
                    break
    if not alike:
        return None
    more = f"; and {len(alike) - 4} more" if len(alike) > 4 else ""
    return "noise.same-for-equal-shapes", {"same numbers in": "; ".join(alike[:4]) + more}


def same_in_tensor(draws: Draws, z: np.ndarray) -> Found | None:
    """Whether the numbers of a tensor come again within it, with whichever sign."""
    problem = draws.problem
    for name, at, shape in zip(problem.names, problem.slices, problem.shapes):
        v = z[:, at]
        n = v.shape[1]
        if n < FEWEST or not v.any():
            continue
        lag = _lag(v)
        if lag is None:
            continue
        width = n // shape[0] if len(shape) > 1 else 0
        if lag == width:
            evidence = {"in": name, "least correlation of two filters' draws": SAME}
            return "noise.same-for-every-filter", evidence
        return "noise.repeated-in-tensor", {"in": name, "the numbers come again after": lag}
    return None


def _lag(v: np.ndarray) -> int | None:
    """The least distance after which the numbers of every row of v come again; None if never."""
    n = v.shape[1]
    size = 1 << (2 * n - 1).bit_length()
    f = np.fft.rfft(v, size, axis=1)
    products = np.fft.irfft(f * f.conj(), size, axis=1).sum(axis=0)[:n]
    squares = np.concatenate([[0.0], np.cumsum((v * v).sum(axis=0))])
    lags = np.arange(1, n - max(FEWEST // len(v), n // 4, 2) + 1)
    lags = lags[lags <= 3 * n // 4]
    norms = np.sqrt((squares[n] - squares[lags]) * squares[n - lags]) + 1e-300
    found = lags[np.abs(products[lags]) > SAME * norms]
    return int(found[0]) if found.size else None
