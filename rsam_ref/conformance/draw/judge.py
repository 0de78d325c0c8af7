"""Judging the draw D = sigma s z from what it looks like: D is observed, as q1 - w, not injected.

The scale s is told by likelihood: under each rule the draws are Gaussian with that scale times one
free constant. Thresholds are so wide that the right draw is refused less than once in 10^8 checks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rsam_ref.conformance.observe.observer import Seen
from rsam_ref.conformance.observe.problem import Problem

DEVIATIONS = 6.5
"""How many standard errors an estimate may be off."""

Found = tuple[str, dict[str, Any]]


def judge_draw(problem: Problem, steps: list[Seen], draws: list[np.ndarray]) -> list[Found]:
    """Codes and evidence for the draws (P,) of the steps; none where they are right."""
    found: list[Found] = []
    moved: np.ndarray = np.any([draw != 0 for draw in draws], axis=0)
    left_out = [name for name, at in zip(problem.names, problem.slices) if not moved[at].any()]
    biases = [name for name, shape in zip(problem.names, problem.shapes) if len(shape) == 1]
    if left_out:
        code = "noise.biases-left-out" if left_out == biases else "noise.tensor-left-out"
        found.append((code, {"without noise": ", ".join(left_out)}))
    early = (
        _one_number(problem, draws)
        or _fixed_length(problem, steps, draws)
        or _same_for_filters(problem, draws)
    )
    if early:
        return [*found, early, *_same_in_all_steps(problem, steps, draws)]

    z = [np.zeros_like(draw) for draw in draws]
    judged: list[tuple[Found | None, Found | None]] = []
    for one_axis, kind in ((False, "weights"), (True, "1-D parameters")):
        here = (problem.one_axis == one_axis) & moved
        if not here.any():
            continue
        scales = _scales(problem, steps, one_axis)
        rule, evidence = _rule(scales, here, draws, [seen.hyper.sigma for seen in steps])
        for t, (draw, scale) in enumerate(zip(draws, scales[rule])):
            z[t][here] = draw[here] / scale[here]
        size = _size(steps, [v[here] for v in z])
        if rule == "noise.unscaled" and size and _follows_all_weights(steps, z, here):
            rule, size = "noise.global-norm", None
        found_rule = (rule.split(" ")[0], {"of": kind, **evidence}) if rule else None
        judged.append((found_rule, (size[0], {"of": kind, **size[1]}) if size else None))
    if len(judged) > 1 and judged[0][0] and _alike(judged[0][0], *judged[1]):
        del judged[1]
    rules = [rule for rule, _ in judged if rule]
    sizes = [size for _, size in judged if size]
    numbers = _numbers(problem, z, moved)
    if any(code in ("noise.not-gaussian", "noise.not-centred") for code, _ in numbers):
        sizes = []  # another distribution has another spread
    return found + rules + sizes[:1] + numbers


def _alike(weights: Found, rule: Found | None, size: Found | None) -> bool:
    """Whether what is wrong with the biases is what is wrong with the weights.

    There are few biases, of similar sizes: a wrong rule may show as a wrong size only.
    """
    same = SAME_FOR_BIASES.get(weights[0])
    return same is not None and (rule is None or rule[0] == same)


SAME_FOR_BIASES = {
    "noise.unscaled": "noise.bias-unscaled",
    "noise.global-norm": "noise.bias-unscaled",
    "noise.elementwise": "noise.bias-elementwise",
    "noise.rms-scale": "noise.bias-rms-scale",
}
"""A rule that is wrong for weights and for biases alike is one finding."""


def _one_number(problem: Problem, draws: list[np.ndarray]) -> Found | None:
    spreads = [
        np.ptp(draw[at]) / (np.abs(draw[at]).max() + 1e-300)
        for draw in draws
        for at in problem.filters()
        if at.stop - at.start > 1 and not problem.one_axis[at.start] and draw[at].any()
    ]
    if spreads and max(spreads) < 1e-4:
        return "noise.one-number-per-filter", {"largest spread within a filter": max(spreads)}
    return None


def _fixed_length(problem: Problem, steps: list[Seen], draws: list[np.ndarray]) -> Found | None:
    """Whether every filter's draw, or every tensor's, has an exact length."""
    for what, runs in (("filter", list(problem.filters())), ("tensor", problem.slices)):
        ratios = [
            np.linalg.norm(draw[at]) / (np.linalg.norm(seen.w[at]) * seen.hyper.sigma)
            for seen, draw in zip(steps, draws)
            for at in runs
            if at.stop - at.start > 1 and draw[at].any() and seen.hyper.sigma > 0
        ]
        if len(ratios) > 1 and np.std(ratios) < 1e-3 * np.mean(ratios):
            evidence = {f"||D|| of each {what} / (sigma x its norm)": float(np.mean(ratios))}
            return "noise.fixed-length", {**evidence, "spread": float(np.std(ratios))}
    return None


def _same_for_filters(problem: Problem, draws: list[np.ndarray]) -> Found | None:
    """Whether all filters of a tensor get the same numbers, each filter times its scale."""
    correlations = []
    for draw in draws:
        for at, shape in zip(problem.slices, problem.shapes):
            if len(shape) > 1 and draw[at].any():
                first, *others = draw[at].reshape(shape[0], -1)
                correlations += [_correlation(first, other) for other in others]
    if correlations and min(correlations) > 0.99:
        evidence = {"least correlation of two filters' draws": min(correlations)}
        return "noise.same-for-every-filter", evidence
    return None


def _same_in_all_steps(
    problem: Problem, steps: list[Seen], draws: list[np.ndarray]
) -> Iterator[Found]:
    """Whether the draws repeat from step to step, where they are wrong in another way as well."""
    z = []
    for seen, draw in zip(steps, draws):
        unscaled = [draw[at] / (np.linalg.norm(seen.w[at]) + 1e-300) for at in problem.filters()]
        z.append(np.concatenate(unscaled))
    repeated = [_correlation(a - a.mean(), b - b.mean()) for a, b in itertools.pairwise(z)]
    if repeated and min(repeated) > 0.99:
        yield "noise.same-draw", {"correlation of two steps' draws": min(repeated)}


def _scales(problem: Problem, steps: list[Seen], one_axis: bool) -> dict[str, list[np.ndarray]]:
    """What s could be: for every rule, one vector (P,) a step. "" is the right rule."""

    def by_rule(rule: Callable[[np.ndarray], Any]) -> list[np.ndarray]:
        vectors = []
        for seen in steps:
            parts = [np.broadcast_to(rule(p), p.shape) for p in problem.parts(seen.w)]
            vectors.append(problem.flat(parts) + 1e-300)
        return vectors

    def norm(axes: tuple[int, ...] | None, mean: bool = False) -> Callable[[np.ndarray], Any]:
        def rule(p: np.ndarray) -> Any:
            along = axes if axes is None else tuple(a for a in axes if a < p.ndim)
            squares = p * p
            reduce = np.mean if mean else np.sum
            return np.sqrt(reduce(squares, axis=along, keepdims=True))

        return rule

    if one_axis:
        return {
            "": by_rule(norm(None)),
            "noise.bias-elementwise": by_rule(np.abs),
            "noise.bias-unscaled": by_rule(np.ones_like),
            "noise.bias-rms-scale": by_rule(norm(None, mean=True)),
        }
    filters = (1, 2, 3)
    return {
        "": by_rule(norm(filters)),
        "noise.whole-tensor": by_rule(norm(None)),
        "noise.wrong-axis": by_rule(norm((0,))),
        "noise.wrong-axis (0, 2, 3)": by_rule(norm((0, 2, 3))),
        "noise.wrong-axis (2, 3)": by_rule(lambda p: norm((2, 3) if p.ndim == 4 else filters)(p)),
        "noise.wrong-axis (1)": by_rule(norm((1,))),
        "noise.wrong-axis (-1)": by_rule(norm((-1,))),
        "noise.elementwise": by_rule(np.abs),
        "noise.unscaled": by_rule(np.ones_like),
        "noise.rms-scale": by_rule(norm(filters, mean=True)),
        "noise.rms-scale (tensor)": by_rule(norm(None, mean=True)),
    }


def _rule(
    scales: dict[str, list[np.ndarray]],
    here: np.ndarray,
    draws: list[np.ndarray],
    sigmas: list[float],
) -> tuple[str, dict[str, Any]]:
    """The rule under which the draws are likeliest, "" being the right one, and the evidence.

    Where several are about equally likely, one whose size is sigma is believed.
    """
    d = np.concatenate([draw[here] for draw in draws])
    each = np.concatenate([np.full(int(here.sum()), sigma) for sigma in sigmas])
    likelihood, fitting = {}, []
    for code, scale in scales.items():
        s = np.concatenate([vector[here] for vector in scale])
        constant = np.sqrt(np.mean((d / s) ** 2))
        likelihood[code] = float(-np.log(s).sum() - s.size * np.log(constant))
        size = np.sqrt(np.mean((d / (s * each)) ** 2))
        if abs(np.log(size + 1e-300)) < DEVIATIONS / np.sqrt(2 * d.size):
            fitting.append(code)
    first, second = sorted(likelihood, key=lambda code: -likelihood[code])[:2]
    near = [code for code in likelihood if likelihood[first] - likelihood[code] < MARGIN]
    if "" in near:
        others = [code for code in near if code in fitting]
        first = "" if "" in fitting or not others else others[0]
        if not first:
            return "", {}
    return first, {
        "log-likelihood above that of the filter's norm": likelihood[first] - likelihood[""],
        "above the runner-up": likelihood[first] - likelihood[second],
    }


MARGIN = 25.0
"""How much likelier (in logarithms) another rule must make the draws before it is believed."""


def _size(steps: list[Seen], z: list[np.ndarray]) -> Found | None:
    """Whether the draws are as large as sigma says, given their rule; z = D / s."""
    count = sum(v.size for v in z)
    tolerance = DEVIATIONS / np.sqrt(2 * count)

    def ratio(expected: list[float], part: slice = slice(None)) -> float:
        scaled = [v / max(e, 1e-300) for v, e in zip(z[part], expected[part])]
        return float(np.sqrt(np.mean(np.concatenate(scaled) ** 2)))

    sigmas = [seen.hyper.sigma for seen in steps]
    steady = [1.0] * len(steps)
    half = next((t for t, sigma in enumerate(sigmas) if sigma != sigmas[0]), len(sigmas))
    early, late = slice(0, half), slice(half, None)
    evidence = {"size of the noise / sigma": ratio(sigmas)}
    if half < len(sigmas):
        change = ratio(steady, late) / ratio(steady, early)
        wanted = sigmas[half] / sigmas[0]
        share = 2 * tolerance  # each half has half of the draws; their ratio is less certain
        if abs(np.log(change)) < share < abs(np.log(wanted)) - share:
            return "noise.sigma-ignored", {**evidence, "change of the noise": change}
    if abs(np.log(ratio(sigmas))) < tolerance:
        return None
    others = {
        "noise.sigma-squared": [s * s for s in sigmas],
        "noise.sigma-root": [s**0.5 for s in sigmas],
        "noise.sigma-times-lr": [s * seen.hyper.lr for s, seen in zip(sigmas, steps)],
    }
    for code, expected in others.items():
        if abs(np.log(ratio(expected))) < 2 * tolerance:
            return code, evidence
    return "noise.wrong-size", evidence


def _follows_all_weights(steps: list[Seen], z: list[np.ndarray], here: np.ndarray) -> bool:
    whole = [np.linalg.norm(seen.w) * seen.hyper.sigma for seen in steps]
    scaled = np.concatenate([v[here] / e for v, e in zip(z, whole)])
    return abs(np.log(np.sqrt(np.mean(scaled**2)))) < 0.1


def _numbers(problem: Problem, z: list[np.ndarray], moved: np.ndarray) -> list[Found]:
    """Whether z looks like independent draws from N(0, 1), up to a constant a step."""
    found: list[Found] = []
    z = [v / (np.sqrt(np.mean(v[moved] ** 2)) + 1e-300) for v in z]
    everything = np.concatenate([v[moved] for v in z])
    n = everything.size
    centred = [v[moved] - v[moved].mean() for v in z]
    repeated = _correlation(centred[0], centred[1]) if len(z) > 1 else 0.0
    if repeated > 0.99:
        found.append(("noise.same-draw", {"correlation of two steps' draws": repeated}))
        n //= len(z)
    elif repeated > DEVIATIONS / np.sqrt(moved.sum()):
        found.append(("noise.correlated", {"correlation of two steps' draws": repeated}))
    mean = float(everything.mean())
    if abs(mean) > DEVIATIONS / np.sqrt(n):
        found.append(("noise.not-centred", {"mean of z": mean, "expected": 0.0}))
    kurtosis = float(np.mean((everything - mean) ** 4) / np.var(everything) ** 2)
    if abs(kurtosis - 3) > DEVIATIONS * np.sqrt(24 / n):
        found.append(("noise.not-gaussian", {"kurtosis of z": kurtosis, "a Gaussian's": 3.0}))
    alike = []
    for i, a in enumerate(problem.slices):
        for j, b in enumerate(problem.slices[:i]):
            size = min(a.stop - a.start, b.stop - b.start)
            first = np.concatenate([v[a][:size] for v in z])
            second = np.concatenate([v[b][:size] for v in z])
            enough = size >= 5 and first.any() and second.any()
            if enough and abs(_correlation(first, second)) > 0.99:
                alike.append(f"{problem.names[j]} and {problem.names[i]}")
    if alike:
        found.append(("noise.same-for-equal-shapes", {"same numbers in": "; ".join(alike)}))
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-300))
