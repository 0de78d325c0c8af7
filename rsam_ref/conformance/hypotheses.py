"""Choosing between explanations of what was observed.

A hypothesis predicts a vector in every step. It *fits* when the prediction is right up to the
precision of the weights. Among those that fit, the one that departs least from the algorithm wins;
where several depart equally, all of them are reported, as a tie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EXACT = 1e-9
"""A relative error below this is rounding, for weights in float64."""

CLOSE = 3e-4
"""Below this the quantity is the right one, in a lower precision."""


@dataclass(frozen=True)
class Hypothesis:
    """``codes`` are its departures from the algorithm: none for the algorithm itself."""

    codes: tuple[str, ...]
    predict: Callable[[Any], np.ndarray] = field(compare=False)
    label: str = ""
    cost: float = 0.0
    """Breaks ties between hypotheses with equally many departures."""


def at_once(
    cases: Sequence[Any], compute: Callable[[], list[np.ndarray]]
) -> Callable[[Any], np.ndarray]:
    """A prediction that is made for all cases together, when it is first asked for one of them."""
    found: dict[int, np.ndarray] = {}

    def predict(case: Any) -> np.ndarray:
        if not found:
            found.update((id(a), vector) for a, vector in zip(cases, compute()))
        return found[id(case)]

    return predict


def in_turn(
    cases: Sequence[Any], compute: Callable[[], Iterator[np.ndarray]]
) -> Callable[[Any], np.ndarray]:
    """A prediction that is made case after case, no further than it is asked for.

    Most explanations are wrong in the first step already.
    """
    found: list[np.ndarray] = []
    number = {id(case): i for i, case in enumerate(cases)}
    rest: Iterator[np.ndarray] | None = None

    def predict(case: Any) -> np.ndarray:
        nonlocal rest
        if rest is None:
            rest = compute()
        while len(found) <= number[id(case)]:
            found.append(next(rest))
        return found[number[id(case)]]

    return predict


def in_steps(numbers: Sequence[int], last: int) -> str:
    """Which steps these are, in words; their numbers and the ``last`` one's count from 0."""
    first = numbers[0]
    if len(numbers) > 1 and list(numbers) == list(range(first, last + 1)):
        return f"from step {first + 1} on"
    told = [str(number + 1) for number in numbers]
    if len(told) > 2 and list(numbers) == list(range(first, numbers[-1] + 1)):
        return f"in steps {told[0]} to {told[-1]}"
    return f"in step {told[0]}" if len(told) == 1 else f"in steps {', '.join(told)}"


@dataclass
class Verdict:
    """The hypothesis that fits, or None; how well; and what came next."""

    best: Hypothesis | None
    error: float
    expected_error: float
    """How far the algorithm's own prediction is from what was observed."""
    runner_up: tuple[str, float] | None = None
    ties: list[Hypothesis] = field(default_factory=list)
    low_precision: bool = False
    nearest: tuple[str, float] | None = None
    """Where nothing fits, what came nearest."""

    def evidence(self) -> dict[str, Any]:
        """For people: how well what was found fits, and how well the algorithm does."""
        found: dict[str, Any] = {}
        if self.best is not None and not np.isnan(self.error):
            found["error"] = self.error
        found["error of the algorithm"] = self.expected_error
        if self.best is None and self.nearest is not None:
            found["nearest"] = f"{self.nearest[0]}, error {self.nearest[1]:.2g}"
        elif self.runner_up is not None:
            found["runner-up"] = f"{self.runner_up[0]}, error {self.runner_up[1]:.2g}"
        if self.ties:
            found["cannot be told from"] = ", ".join(code for h in self.ties for code in h.codes)
        return found


def choose(
    hypotheses: Iterable[Hypothesis],
    cases: Sequence[Any],
    observed: Callable[[Any], np.ndarray],
    scale: Callable[[Any], float],
    tolerance: float = EXACT,
) -> Verdict:
    """The explanation of what was observed in all cases (steps).

    The algorithm itself comes first among them, if it is one of them: where it fits, no other is
    made. A hypothesis' error is the largest over the cases of ||predicted - observed|| / scale.
    """
    truth = [observed(case) for case in cases]
    sizes = [max(scale(case), 1e-300) for case in cases]
    limit = max(CLOSE, tolerance)

    def error_of(hypothesis: Hypothesis) -> float:
        error = 0.0
        for case, right, size in zip(cases, truth, sizes):
            distance = np.linalg.norm(hypothesis.predict(case) - right) / size
            error = max(error, float(distance)) if np.isfinite(distance) else np.inf
            if error > 100 * limit and hypothesis.codes:
                break  # it will not fit; its error so far is told as a runner-up's
        return error

    with np.errstate(all="ignore"):
        return _chosen(hypotheses, error_of, tolerance, limit)


def _chosen(
    hypotheses: Iterable[Hypothesis],
    error_of: Callable[[Hypothesis], float],
    tolerance: float,
    limit: float,
) -> Verdict:
    """The one that departs least among those that fit, by their errors."""
    remaining = iter(hypotheses)
    first = next(remaining, None)
    if first is not None and not first.codes and (error := error_of(first)) <= tolerance:
        return Verdict(first, error, error)  # the algorithm itself: no other needs to be made
    others = [*([] if first is None else [first]), *remaining]
    found: list[tuple[float, Hypothesis]] = []
    for hypothesis in sorted(others, key=lambda h: len(h.codes)):
        error = error_of(hypothesis)
        found.append((error, hypothesis))
        if not hypothesis.codes and error <= tolerance:
            return Verdict(hypothesis, error, error)
    expected = min((e for e, h in found if not h.codes), default=np.inf)

    def rank(item: tuple[float, Hypothesis]) -> tuple[float, float]:
        return len(item[1].codes), item[1].cost

    fits = sorted((item for item in found if item[0] <= tolerance), key=rank)
    low = not fits
    if low:
        fits = sorted((item for item in found if item[0] <= limit), key=lambda i: (rank(i), i[0]))
    by_error = sorted(found, key=lambda item: item[0])
    if not fits:
        nearest = (by_error[0][1].label, by_error[0][0]) if by_error else None
        return Verdict(None, np.inf, expected, nearest=nearest)
    error, best = fits[0]
    ties: list[Hypothesis] = []
    for _, other in fits[1:]:
        known = [set(h.codes) for h in [best, *ties]]
        if rank((0, other)) == rank((0, best)) and set(other.codes) not in known:
            ties.append(other)
    next_best = next(
        ((h.label, e) for e, h in by_error if set(h.codes) != set(best.codes) and h not in ties),
        None,
    )
    return Verdict(best, error, expected, next_best, ties, low_precision=low and not ties)
