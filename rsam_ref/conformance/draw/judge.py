"""Judging the draw D = sigma s z from what it looks like: D is observed, as q1 - w, not injected.

In this order: in which steps and for which weights is anything drawn; does it repeat, or have an
exact form that no scale explains; by what is it scaled; from which distribution does z come.
Thresholds are so wide that the right draw is refused less than once in 10^8 checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rsam_ref.conformance.draw.distribution import judge_distribution, kurtosis_of, zero_sums
from rsam_ref.conformance.draw.draws import Draws, Found, correlation
from rsam_ref.conformance.draw.lengths import fixed_length
from rsam_ref.conformance.draw.precision import low_precision
from rsam_ref.conformance.draw.repeats import (
    SAME,
    correlated_steps,
    same_in_steps,
    same_in_tensor,
    same_in_tensors,
    shifted_steps,
)
from rsam_ref.conformance.draw.scales import Scale, judge_scale, size_of_noise
from rsam_ref.conformance.observe.observer import Seen
from rsam_ref.conformance.observe.problem import Problem


def judge_draw(problem: Problem, steps: list[Seen], draws: list[np.ndarray]) -> list[Found]:
    """Codes and evidence for the draws (P,) of the steps; none where they are right."""
    drawn = [t for t, draw in enumerate(draws) if draw.any()]
    without = [str(steps[t].number + 1) for t in range(len(steps)) if t not in drawn]
    found: list[Found] = []
    if without:
        found.append(("noise.missing", {"steps without a draw": ", ".join(without)}))
    if not drawn:
        return found
    those = Draws(problem, [steps[t] for t in drawn], np.stack([draws[t] for t in drawn]))
    found += _left_out(those)
    again, fresh = same_in_steps(those)
    early = _one_number(those) or _same_for_filters(those) or fixed_length(those, fresh)
    if early:
        return [*found, early, *([again] if again else [])]
    scales, z = _scales(those, len(drawn) / len(fresh))
    repeats = [again] if again else []
    if misfits := [s for s in scales if s.misfit]:
        # z is not known, so neither is its distribution; and fewer weights may hide the same misfit
        most = max(misfits, key=lambda s: int(s.here.sum()))
        return [*found, ("noise.unknown-scale", {"of": most.of, **(most.misfit or {})}), *repeats]
    wrong_rules, sizes = list(_rules(scales)), list(_sizes(those, scales))
    if not again and (correlated := correlated_steps([s.number for s in those.steps], z)):
        repeats.append(correlated)
    for within in (same_in_tensor(those, z), same_in_tensors(those, z)):
        repeats += [within] if within else []
    if not again and not repeats and (rolled := shifted_steps(those, z)):
        repeats.append(rolled)
    numbers = judge_distribution(z[fresh][:, those.moved].ravel(), bool(repeats))
    if not numbers and not repeats and (balanced := zero_sums(those, those.unscaled)):
        numbers.append(balanced)
    if numbers:  # another distribution has another spread
        sizes = [
            size for size in sizes if size[0] not in ("noise.wrong-size", "noise.sigma-ignored")
        ]
    if name := low_precision(those.d[:, those.moved].ravel()) or low_precision(
        z[:, those.moved].ravel()
    ):
        numbers.append(("noise.low-precision", {"type": name}))
    return found + wrong_rules + sizes[:1] + repeats + numbers


def _left_out(draws: Draws) -> Iterator[Found]:
    """Tensors that get no noise in any step."""
    problem = draws.problem
    left_out = [
        name for name, at in zip(problem.names, problem.slices) if not draws.moved[at].any()
    ]
    biases = [name for name, shape in zip(problem.names, problem.shapes) if len(shape) == 1]
    if left_out:
        code = "noise.biases-left-out" if left_out == biases else "noise.tensor-left-out"
        yield code, {"without noise": ", ".join(left_out)}


def _scales(draws: Draws, repeated: float) -> tuple[list[Scale], np.ndarray]:
    """What scales each kind of weights, and z = D over that (steps, P)."""
    tails = repeated
    most = max(draws.kinds, key=lambda of: draws.kinds[of].sum())
    for _ in range(2):
        main = judge_scale(draws, most, tails)
        scales = [main if of == most else judge_scale(draws, of, tails, main) for of in draws.kinds]
        z = np.zeros_like(draws.d)
        for scale in scales:
            z[:, scale.here] = scale.z(draws)
        heavy = (kurtosis_of(z[:, draws.moved].ravel()) - 1) / 2
        if heavy < 1.1:  # as heavy as a Gaussian's: the scales are those
            break
        tails = repeated * heavy
    return scales, z


def _rules(scales: list[Scale]) -> Iterator[Found]:
    """The wrong rules, each told once: what is wrong with biases as with weights is one finding."""
    told: dict[str, list[str]] = {}
    evidence: dict[str, dict[str, Any]] = {}
    for scale in sorted(scales, key=lambda s: -int(s.here.sum())):
        code = scale.rule.code
        if code and code not in {SAME_FOR_BIASES.get(other) for other in told}:
            told.setdefault(code, []).append(scale.of)
            evidence.setdefault(code, scale.evidence)
    for code, kinds in told.items():
        yield code, {"of": " and ".join(kinds), **evidence[code]}


SAME_FOR_BIASES = {
    "noise.unscaled": "noise.bias-unscaled",
    "noise.global-norm": "noise.bias-unscaled",
    "noise.elementwise": "noise.bias-elementwise",
    "noise.rms-scale": "noise.bias-rms-scale",
}


def _sizes(draws: Draws, scales: list[Scale]) -> Iterator[Found]:
    """Wrong amounts; those of the most numerous weights first.

    Where others are as large as sigma says, a number that makes a wrong rule fit is no second
    cause.
    """
    wrong = [s for s in scales if s.amount.code]
    if len(wrong) < len(scales):
        wrong = [s for s in wrong if not (s.rule.code and s.amount.free)]
    for scale in sorted(wrong, key=lambda s: -int(s.here.sum())):
        of = {} if len(wrong) == len(scales) else {"of": scale.of}
        yield scale.amount.code, {**of, **size_of_noise(draws, scale)}


def _one_number(draws: Draws) -> Found | None:
    """Whether the weights of a filter share one random number, as it is or times the weights."""
    problem, w = draws.problem, np.stack([seen.w for seen in draws.steps])
    for v, times in ((draws.d, ""), (draws.d / np.where(w == 0, 1, w), ", times each weight")):
        spreads = [
            np.ptp(row[at]) / (np.abs(row[at]).max() + 1e-300)
            for row in v
            for at in problem.filters()
            if at.stop - at.start > 1 and not problem.one_axis[at.start] and row[at].any()
        ]
        if spreads and max(spreads) < 1e-4:
            evidence = {f"largest spread within a filter{times}": max(spreads)}
            return "noise.one-number-per-filter", evidence
    return None


def _same_for_filters(draws: Draws) -> Found | None:
    """Whether all filters of a tensor get the same numbers, each filter times its scale."""
    problem = draws.problem
    correlations = []
    for draw in draws.d:
        for at, shape in zip(problem.slices, problem.shapes):
            if len(shape) > 1 and draw[at].any():
                first, *others = draw[at].reshape(shape[0], -1)
                correlations += [correlation(first, other) for other in others]
    if correlations and min(correlations) > SAME:
        evidence = {"least correlation of two filters' draws": min(correlations)}
        return "noise.same-for-every-filter", evidence
    return None
