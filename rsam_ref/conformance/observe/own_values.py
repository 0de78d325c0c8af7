"""What a setting is that could not be passed, read off the steps.

A radius that is always the same, a draw that is always as long, a proportion that is always the
same: these are an implementation's own rho, sigma and lam, and it is judged with them.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.observe.observer import Seen, Step, resolution
from rsam_ref.conformance.observe.problem import Problem


def own_values(
    problem: Problem, steps: list[Step], algorithm: str, missing: Collection[str]
) -> dict[str, float]:
    """Those of the missing settings that can be read off steps which all had the same settings."""
    cases: list[Case] = []
    for step in steps:
        if not step.evaluations or not np.isfinite(step.after).all():
            return {}
        seen = Seen(problem, step)
        seen.forget_looks()
        cases.append(Case(problem, seen, cases[-1] if cases else None))
    within = 1e-3 if resolution(steps) > 2.0**-40 else 1e-6
    found: dict[str, float | None] = {}
    if "rho" in missing:
        found["rho"] = _radius(cases, algorithm, within)
    if "sigma" in missing:
        found["sigma"] = _scale(cases)
    if "lam" in missing:
        found["lam"] = _proportion(cases, within)
    if {"lr", "momentum", "weight_decay"} & set(missing):
        found |= _of_the_base(cases, missing, 10 * within)
    return {name: value for name, value in found.items() if value is not None and name in missing}


def _radius(cases: list[Case], algorithm: str, within: float) -> float | None:
    lengths = [float(np.linalg.norm(a.eps)) for a in cases]
    readings = [lengths]
    if algorithm == "asam":
        readings = []
        for reach in (lambda a: a.reach, lambda a: np.abs(a.w)):
            sizes = [
                np.linalg.norm(reach(a) ** 2 * a.first) / np.linalg.norm(reach(a) * a.first)
                for a in cases
            ]
            readings.append([length / float(size) for length, size in zip(lengths, sizes)])
    return next((v for v in (_constant(r, within) for r in readings) if v), None)


def _scale(cases: list[Case]) -> float | None:
    sizes = [float(np.sqrt(np.mean((a.draw / a.scale) ** 2))) for a in cases if a.draw.any()]
    if len(sizes) < len(cases):
        return None
    error = 1 / np.sqrt(2 * len(cases[0].w))
    found = _constant(sizes, 10 * error)
    return None if found is None else _plain(found, 4 * error / np.sqrt(len(sizes)))


def _proportion(cases: list[Case], within: float) -> float | None:
    proportions = []
    for a in cases:
        plane = np.stack([a.first, a.draw], axis=1)
        weights, *_ = np.linalg.lstsq(plane, a.eps, rcond=None)
        rest = np.linalg.norm(plane @ weights - a.eps)
        if rest > within * np.linalg.norm(a.eps) or weights[1] <= 0:
            return None
        proportions.append(float(weights[0] / weights[1]))
    return _constant(proportions, within)


def _of_the_base(
    cases: list[Case], missing: Collection[str], within: float
) -> dict[str, float | None]:
    """lr, momentum and weight decay of an SGD, from its first two steps."""
    if len(cases) < 2:
        return {}
    one, two = cases[:2]
    g, w, move = one.seen.gradient(-1), one.w, one.w - one.seen.after
    weights, *_ = np.linalg.lstsq(np.stack([g, w], axis=1), move, rcond=None)
    lr = float(weights[0])
    velocity = g + weights[1] / weights[0] * w if lr else g
    if lr <= 0 or np.linalg.norm(lr * velocity - move) > within * np.linalg.norm(move):
        return {}
    decay = float(weights[1]) / lr
    if "lr" not in missing and abs(lr / one.hyper.lr - 1) > within:
        return {}
    later = (two.w - two.seen.after) / lr - two.seen.gradient(-1) - decay * two.w
    momentum = float(later @ velocity / (velocity @ velocity))
    if np.linalg.norm(later - momentum * velocity) > 10 * within * np.linalg.norm(velocity):
        return {}
    found = {"lr": lr, "momentum": momentum, "weight_decay": decay}
    return {k: 0.0 if abs(v) < within else _plain(v, within) for k, v in found.items()}


def _constant(values: list[float], within: float) -> float | None:
    """What the values all are, up to a relative error."""
    middle = float(np.mean(values))
    if not np.isfinite(middle) or middle <= 0 or np.ptp(values) > within * middle:
        return None
    return _plain(middle, within)


def _plain(value: float, within: float) -> float:
    """The nearest number with few digits, where there is one so near."""
    for digits in (1, 2, 3):
        short = float(f"{value:.{digits}g}")
        if abs(short / value - 1) < within:
            return short
    return value
