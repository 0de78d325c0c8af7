"""Whether draws have an exact length: of every filter, every tensor, or the whole of it.

A Gaussian's length varies: that of n numbers by a share of 1 / sqrt(2 n). So runs of the same size
in one kind of weights are compared, over all steps, and what varies less than chance allows is
exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rsam_ref.conformance.draw.draws import Draws, Found
from rsam_ref.conformance.draw.repeats import SAME

EXACT = 1e-3
"""Lengths that differ by a smaller share than this may be one; weights are kept in float32, too."""

IMPOSSIBLE = 1e-12
"""Lengths that a Gaussian has less probably than this are exact."""


def fixed_length(draws: Draws, fresh: list[int]) -> Found | None:
    """The largest set of runs with one exact length, in terms of sigma and their weights' norm.

    ``fresh`` are the steps (by index) whose numbers are new: what is repeated says nothing more.
    """
    sets = [found for found in _sets(draws, fresh) if _is_exact(*found[1:])]
    if not sets:
        return None
    what, ratios, size = max(sets, key=lambda found: found[1].size)
    mean = float(ratios.mean())
    evidence = {f"||D|| of each {what} / (sigma x its norm)": mean, "spread": float(ratios.std())}
    if abs(mean / np.sqrt(size) - 1) < EXACT:
        evidence["that is the root of the number of weights"] = size
    return "noise.fixed-length", evidence


def _sets(draws: Draws, fresh: list[int]) -> Iterator[tuple[str, np.ndarray, int]]:
    """||D|| / (sigma ||w||) of runs that should vary alike: of what, (runs,), their size."""
    problem = draws.problem
    whole = slice(0, draws.d.shape[1])
    for what, parts in (
        ("filter", list(problem.filters())),
        ("tensor", problem.slices),
        ("step", [whole]),
    ):
        alike: dict[tuple[str, int], list[slice]] = {}
        for at in parts:
            alike.setdefault((_kind(draws, at), at.stop - at.start), []).append(at)
        found = [
            (_ratios(draws, fresh, runs), size) for (_, size), runs in alike.items() if size > 1
        ]
        for ratios, size in found:
            yield what, ratios, size
        if len(found) > 1:  # all sizes, should the length be the same for them
            yield what, np.concatenate([ratios for ratios, _ in found]), max(s for _, s in found)


def _ratios(draws: Draws, fresh: list[int], runs: list[slice]) -> np.ndarray:
    """The ratios of runs of one size in the fresh steps, without those that repeat others."""
    ratios, numbers = [], []
    for t in fresh:
        seen, draw, z = draws.steps[t], draws.d[t], draws.unscaled[t]
        for at in runs:
            size = float(np.linalg.norm(seen.w[at])) * seen.hyper.sigma
            if size > 0 and _varies(z[at]):
                ratios.append(float(np.linalg.norm(draw[at])) / size)
                numbers.append(z[at] / np.linalg.norm(z[at]))
    if not ratios:
        return np.empty(0)
    again = np.tril(np.abs(np.stack(numbers) @ np.stack(numbers).T) > SAME, -1).any(axis=1)
    return np.array(ratios)[~again]


def _varies(d: np.ndarray) -> bool:
    """Whether numbers are of several sizes: the length of signs alone is always the same."""
    return bool(np.ptp(np.abs(d)) > EXACT * np.abs(d).max())


def _kind(draws: Draws, at: slice) -> str:
    return next((name for name, here in draws.kinds.items() if here[at].any()), "")


def _is_exact(ratios: np.ndarray, size: int) -> bool:
    """Whether so many lengths, each of ``size`` numbers, are nearer together than by chance."""
    if ratios.size < 3:
        return False
    spread = float(ratios.std() / ratios.mean())
    if spread > EXACT:
        return False
    by_chance = max(spread, 1e-9) * np.sqrt(2 * size)
    return bool((ratios.size - 1) * np.log(by_chance) < np.log(IMPOSSIBLE))
