"""Other algorithms that are told by more than their ascent: by when, and in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm
from rsam_ref.conformance.ascent.length import Found
from rsam_ref.conformance.observe.differences import derivative
from rsam_ref.conformance.observe.observer import Seen

EXACT = 1e-6
Gradients = tuple[str, tuple[str, ...], list[Vector]]
"""What may be used as the gradient of the base step: label, codes, one vector (P,) a step."""


# The ascent's gradient is differentiated as well


def through_ascent(a: Case) -> Vector:
    """The gradient of L(w + eps(w)): that at w + eps, and what w does to eps.

    With eps = rho v / ||v|| and v = lam g0 + D it is g + rho lam H (g - u (u g)) / ||v||, with
    u = v / ||v|| and H the Hessian where g0 was taken. D is taken as fixed.
    """
    lam = a.hyper.lam if a.draw.any() else 1.0
    v = lam * a.first + a.draw
    u, g = v / norm(v), a.seen.gradient(-1)
    return g + lam * a.hyper.rho / norm(v) * _hessian_times(a, g - (u @ g) * u)


def _hessian_times(a: Case, v: Vector) -> Vector:
    """H v at the first point."""
    samples = a.seen.batches[0]

    def gradient(w: Vector) -> Vector:
        return a.problem.loss_and_grad(w, *samples, a.seen.number)[1]

    return derivative(gradient, a.seen.points[0], v)


def second_order(cases: list[Case]) -> Iterator[Gradients]:
    """The gradients with the second-order term, where there is an ascent."""
    if all(len(a.seen.points) == 2 and a.eps.any() for a in cases):
        label = "g with the second-order term"
        yield label, ("update.second-order",), [through_ascent(a) for a in cases]


# The ascent is made now and then, and reused


def looksam(cases: list[Case]) -> Iterator[Gradients]:
    """LookSAM: between ascents g0 and, of its length times alpha, the last part of g across g0.

    The paper measures both over all weights, packages often tensor by tensor.
    """
    hints = cases[0].seen.base.hints
    alphas = [float(x) for x in hints.values() if isinstance(x, float) and 0 < x <= 2]
    for alpha in dict.fromkeys([0.7, *alphas, 0.5, 0.3, 0.8, 0.9, 1.0, 0.1, 0.2]):
        for runs, label in (
            ([slice(0, cases[0].w.size)], "over all weights"),
            (cases[0].problem.slices, "tensor by tensor"),
        ):
            used = _reused(cases, alpha, runs)
            if used is not None:
                yield f"LookSAM {label}, alpha {alpha:g}", ("algorithm.looksam",), used


def _reused(cases: list[Case], alpha: float, runs: list[slice]) -> list[Vector] | None:
    across: Vector | None = None
    used = []
    for a in cases:
        g0, g = a.first, a.seen.gradient(-1)
        if len(a.seen.points) > 1:
            across = g.copy()
            for at in runs:
                across[at] -= (g[at] @ g0[at]) / (g0[at] @ g0[at] + 1e-300) * g0[at]
            used.append(g)
            continue
        if across is None:
            return None
        step = g0.copy()
        for at in runs:
            step[at] += alpha * norm(g0[at]) / norm(across[at]) * across[at]
        used.append(step)
    return used


# The ascent needs no gradient of its own


def memory_alone(cases: list[Case]) -> Found | None:
    """Whether eps goes along what the steps before left, from the first step that has one."""
    moved = [a for a in cases if a.before is not None and a.eps.any()]
    if len(moved) < len(cases) - 1 or not moved:
        return None
    ways: list[tuple[str, str, Callable[[Case], Vector]]] = [
        ("the velocity", "algorithm.momentum-sam", lambda b: b.w - b.seen.after),
        ("the last step's first gradient", "ascent.stale-gradient", lambda b: b.first),
        ("the last step's gradient", "ascent.stale-gradient", lambda b: b.seen.gradient(-1)),
    ]
    for label, code, of in ways:
        vectors = [of(a.before) for a in moved if a.before is not None]
        cosines = np.array([a.eps @ v / (norm(a.eps) * norm(v)) for a, v in zip(moved, vectors)])
        if abs(cosines - np.sign(cosines[0])).max() < EXACT:
            sign = "" if cosines[0] > 0 else "minus "
            lengths = [round(norm(a.eps) / a.hyper.rho, 4) for a in moved]
            return code, {"eps is along": sign + label, "||eps|| / rho": lengths}
    running = [_remembers(a) for a in moved[2:]]
    if running and all(running):
        return "algorithm.momentum-sam", {"eps is along": "a running mean of the gradients used"}
    return None


def _remembers(a: Case) -> bool:
    basis = np.stack([b.seen.gradient(-1) for b in a.history[:-1]], axis=1)
    weights, *_ = np.linalg.lstsq(basis, a.eps, rcond=None)
    return norm(basis @ weights - a.eps) < EXACT * norm(a.eps)


# Each part of the mini-batch has an ascent of its own


def per_part(seen: Seen) -> tuple[int, Vector] | None:
    """m-sharpness: how many parts the mini-batch has, and the mean of their gradients at w + eps.

    None where the perturbations are not those of the parts' own gradients.
    """
    used = np.zeros_like(seen.w)
    rows: set[int] = set()
    parts = 0
    for i, (point, (batch, of)) in enumerate(zip(seen.points, seen.batches)):
        if of is None or np.array_equal(point, seen.w):
            continue
        _, g = seen.problem.loss_and_grad(seen.w, batch, of, seen.number)
        eps = seen.hyper.rho * g / norm(g)
        if rows & of or norm(point - seen.w - eps) > 1e-5 * norm(eps):
            return None
        used += len(of) * seen.gradient(i)
        rows |= of
        parts += 1
    return (parts, used / len(rows)) if parts > 1 else None


def take_parts_together(steps: list[Seen]) -> int | None:
    """Where every step has an ascent for each part, what is seen of them becomes one: how many."""
    found = [per_part(seen) for seen in steps]
    if not found or any(each is None for each in found):
        return None
    for seen, each in zip(steps, found):
        if each is not None:
            seen.take_together(each[1])
    return found[0][0] if found[0] else None


# Only some of the weights are perturbed


def describe_mask(cases: list[Case]) -> dict[str, Any]:
    """Which weights are perturbed where some are not: their share, and by what they are chosen."""
    shares = [float(np.mean(a.eps != 0)) for a in cases]
    evidence: dict[str, Any] = {"share of the weights": [round(s, 4) for s in shares]}
    measures: dict[str, Callable[[Case], Vector]] = {
        "|g0|, as in sparse SAM": lambda a: np.abs(a.first),
        "|w|": lambda a: np.abs(a.w),
        "|w g0|": lambda a: np.abs(a.w * a.first),
    }
    for label, measure in measures.items():
        for sign, which in ((1.0, "the largest"), (-1.0, "the smallest")):
            values = [sign * measure(a) for a in cases]
            if all(_above(a, v, [slice(0, v.size)]) for a, v in zip(cases, values)):
                return {**evidence, "which": f"{which} {label}"}
            if all(_above(a, v, a.problem.slices) for a, v in zip(cases, values)):
                return {**evidence, "which": f"{which} {label}, in every tensor"}
    same = all(np.array_equal(a.eps != 0, cases[0].eps != 0) for a in cases)
    evidence["which"] = (
        "the same in all steps"
        if same
        else "others in every step, as in ESAM's weight perturbation"
    )
    return evidence


def _above(a: Case, values: Vector, runs: list[slice]) -> bool:
    """Whether in every run the perturbed weights have larger values than the others."""
    for at in runs:
        here = a.eps[at] != 0
        if here.any() and not here.all() and values[at][here].min() < values[at][~here].max():
            return False
    return True
