"""Judging a length, where the direction is right: what does ||eps|| follow, if it is not rho?

A number is told from the steps where one is needed (a constant, a floor), and only where it fits in
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm
from rsam_ref.conformance.ascent.constants import Place, constant_of
from rsam_ref.conformance.ascent.norms import modules, vectors

STEADY = 1e-5
"""Numbers that differ by less than this share are one constant."""

HALVES = 2.0**-7
"""How far a norm may be off that is rounded to half precision (bfloat16 has 8 bits) twice."""

ROUNDED = "as if rounded to"

Found = tuple[str, dict[str, Any]]


@dataclass
class Lengths:
    """In every step: ||eps||, rho, and the norm that should have divided the direction."""

    cases: list[Case]
    lengths: Vector
    rhos: Vector
    sizes: Vector
    """The norm that should divide."""
    vectors: list[Vector]
    """What should be divided, whose norms may have been taken in another way."""
    measured: list[Vector]
    """What should divide it by its norm."""
    exact: float = STEADY

    def steady(self, v: Vector) -> bool:
        """Whether v is one and the same number in all steps, other than 0."""
        return bool(np.isfinite(v).all() and np.ptp(v) < self.exact * np.abs(v).max())

    @property
    def factors(self) -> Vector:
        """By what the direction was multiplied, over rho: 1 / norm is right."""
        return self.lengths / self.rhos / self.along

    @property
    def along(self) -> Vector:
        """The length of the direction itself."""
        return np.array([norm(v) for v in self.vectors])


def lengths_of(
    cases: list[Case],
    from_noise: bool,
    vector: Callable[[Case], Vector],
    measured: Callable[[Case], Vector] | None,
    tolerance: float = 0.0,
) -> Lengths:
    """The lengths of eps along a direction, and what they should follow."""
    eps = [a.eps - a.draw if from_noise else a.eps for a in cases]
    vectors = [vector(a) for a in cases]
    divisors = [measured(a) for a in cases] if measured else vectors
    return Lengths(
        cases,
        np.array([norm(e) for e in eps]),
        np.array([a.hyper.rho for a in cases]),
        np.array([norm(m) for m in divisors]),
        vectors,
        divisors,
        max(STEADY, tolerance),
    )


def judge_length(
    cases: list[Case],
    from_noise: bool,
    vector: Callable[[Case], Vector],
    measured: Callable[[Case], Vector] | None,
    tolerance: float = 0.0,
) -> Found:
    """What is wrong with the length of eps along a direction; the code that says least at last."""
    v = lengths_of(cases, from_noise, vector, measured, tolerance)
    evidence = {"||eps|| / rho": [round(float(r), 6) for r in v.lengths / v.rhos]}
    for law in LAWS:
        for code, more in law(v):
            return code, {**more, **evidence}
    return "ascent.radius-scheduled", {**evidence, **_over_time(v)}


def _constant(v: Lengths) -> Iterator[Found]:
    """A length that is constant, rho times a constant, or right but for a constant in the norm."""
    if v.steady(v.lengths) and not v.steady(v.rhos):
        yield "ascent.radius-ignored", {"||eps||": float(v.lengths[0])}
    # ||eps|| may be rho |v| / ||m||, with another m than v
    for of in (v.lengths / v.rhos, v.factors * v.sizes):
        if v.steady(of):
            yield "ascent.wrong-radius", {"||eps|| = rho times": float(of.mean())}
    if v.steady(v.lengths * v.sizes / v.along) and not v.steady(v.rhos):
        yield "ascent.radius-ignored", {"in rho's place": float((v.lengths * v.sizes / v.along)[0])}
    yield from in_the_norm(v)


def in_the_norm(v: Lengths) -> Iterator[Found]:
    """A constant that stands in the norm, wherever it does."""
    slices = v.cases[0].problem.slices
    whole = slices[-1].stop
    parts = [
        np.array([norm(m[at]) for at in slices]) if m.size == whole else np.array([norm(m)])
        for m in v.measured
    ]
    found = constant_of(parts, 1 / v.factors, v.exact > STEADY)
    if found is not None:
        yield found[0].code, told(*found)


def in_each_tensors_norm(v: Lengths) -> Iterator[Found]:
    """A constant that stands in the norms of tensors that are divided one by one."""
    parts, wholes = [], []
    for a, along, measured in zip(v.cases, v.vectors, v.measured):
        for at in a.problem.slices if measured.size == along.size else []:
            factor = float(a.eps[at] @ along[at]) / (a.hyper.rho * norm(along[at]) ** 2)
            if factor <= 0 or norm(a.eps[at] - a.hyper.rho * factor * along[at]) > (
                max(1e-9, v.exact - STEADY) * norm(a.eps[at])
            ):
                return
            parts.append(np.array([norm(measured[at])]))
            wholes.append(1 / factor)
    found = constant_of(parts, np.array(wholes), v.exact > STEADY) if parts else None
    if found is not None and found[0].code == "ascent.epsilon-too-large":
        yield "ascent.norm-per-tensor", told(*found)


def told(place: Place, constant: float) -> dict[str, Any]:
    return {"the constant": float(f"{constant:.6g}"), "it stands": place.told}


def _bounded(v: Lengths) -> Iterator[Found]:
    """rho / max(norm, c), min(rho, c), max(rho, c): a bound that bites in some steps."""
    ratios = v.factors * v.sizes
    bitten = np.abs(ratios - 1) > v.exact
    if not 0 < bitten.sum() < len(ratios):
        return
    bounds = {
        "the norm is at least": (v.sizes / ratios, 1.0),
        "the norm is at most": (v.sizes / ratios, -1.0),
        "the radius is at most": (v.rhos * ratios, 1.0),
        "the radius is at least": (v.rhos * ratios, -1.0),
    }
    for what, (values, sign) in bounds.items():
        # a smaller ratio comes from a floor under the norm or a cap on the radius
        if (sign * (1 - ratios[bitten]) > 0).all() and (
            bitten.sum() == 1 or v.steady(values[bitten])
        ):
            bound = float(values[bitten][0])
            inner = v.sizes if "norm" in what else v.rhos
            inside = inner[~bitten] > bound if "least" in what else inner[~bitten] < bound
            if inside.all():
                yield "ascent.bounded-radius", {what: bound, "it bites in steps": _steps(v, bitten)}


def _steps(v: Lengths, which: Vector) -> str:
    return ", ".join(str(a.seen.number + 1) for a, here in zip(v.cases, which) if here)


def _not_normalised(v: Lengths) -> Iterator[Found]:
    """A multiple of the direction: rho times a constant, or a constant that is not rho."""
    if v.steady(v.sizes):
        return  # the norm does not change: it cannot be told
    if v.steady(v.factors):
        yield "ascent.not-normalised", {"eps = rho v times": float(v.factors.mean())}
    elif v.steady(v.factors * v.rhos):
        value = float((v.factors * v.rhos).mean())
        yield "ascent.not-normalised", {"eps = v times": value, "whatever rho": "it is fixed"}


def _partly(v: Lengths) -> Iterator[Found]:
    """eps = rho (a + b / norm) v: between the gradient and its direction."""
    if len(v.sizes) < 4 or v.steady(v.sizes):
        return
    for rho, with_rho in ((np.ones_like(v.rhos), "rho "), (v.rhos, "")):
        wanted = v.factors * rho
        columns = np.stack([np.ones_like(v.sizes), 1 / v.sizes], axis=1)
        (a, b), *_ = np.linalg.lstsq(columns, wanted, rcond=None)
        rest = np.abs(columns @ [a, b] - wanted).max()
        if rest < v.exact * np.abs(wanted).max() and a > 0 and b > 0:
            formula = f"{with_rho}({a:.4g} + {b:.4g} / norm) v"
            yield "ascent.partly-normalised", {"eps": formula, "a": float(a), "b": float(b)}


def _other_norms(v: Lengths) -> Iterator[Found]:
    """rho v over another norm of v, or a multiple of one."""
    problem = v.cases[0].problem
    runs = {name: [at] for name, at in zip(problem.names, problem.slices)}
    for parts in modules(v.cases[0]):
        first = problem.names[problem.slices.index(parts[0])]
        runs[f"the module of {first}"] = parts
    known: dict[str, tuple[str, Callable[[Vector], float]]] = {}
    for name, parts in runs.items():
        known[f"the norm of {name}"] = "ascent.norm-of-one-tensor", partial(_norm_of, parts)
    for name, at in zip(problem.names, problem.slices):
        rest = [other for other in problem.slices if other != at]
        known[f"the norm without {name}"] = "ascent.other-norm", partial(_norm_of, rest)
    for power in (1.0, 1.5, 3.0, 4.0):
        known[f"the {power:g}-norm"] = "ascent.other-norm", partial(_power_norm, power)
    known["the largest entry"] = "ascent.other-norm", lambda u: float(np.abs(u).max())
    for label, (code, measure) in known.items():
        ratios = v.factors * np.array([measure(u) for u in v.vectors])
        if v.steady(ratios):
            times = {} if abs(ratios[0] - 1) < 1e-4 else {"and a factor of": float(ratios[0])}
            yield code, {"divided by": label, **times}


def _of_other_vectors(v: Lengths) -> Iterator[Found]:
    """rho v over the norm of another vector, of this step or of the one before."""
    later = [i for i, a in enumerate(v.cases) if a.before is not None]
    for label, vector in vectors():
        norms = np.array([norm(vector(a)) for a in v.cases])
        before = np.array([norm(vector(a.before)) for a in v.cases if a.before is not None])
        for of, ratios in (
            (label, v.factors * norms),
            (f"{label} of the step before", v.factors[later] * before),
        ):
            if len(ratios) > 2 and v.steady(ratios):
                times = {} if abs(ratios[0] - 1) < 1e-4 else {"and a factor of": float(ratios[0])}
                yield "ascent.other-norm", {"divided by": f"the norm of {of}", **times}


def _norm_of(parts: list[slice], v: Vector) -> float:
    return norm(np.concatenate([v[at] for at in parts]))


def _power_norm(power: float, v: Vector) -> float:
    return float((np.abs(v) ** power).sum() ** (1 / power))


def _settings(v: Lengths) -> Iterator[Found]:
    """rho times another setting, or times the size of the weights."""
    ratios = v.factors * v.sizes
    hypers = [a.hyper for a in v.cases]
    others = {
        "lr": ("ascent.radius-times-lr", np.array([h.lr for h in hypers])),
        "the root of lr": ("ascent.radius-times-lr", np.array([h.lr**0.5 for h in hypers])),
        "sigma": ("ascent.radius-scheduled", np.array([h.sigma for h in hypers])),
        "||w||": ("ascent.relative-radius", np.array([norm(a.w) for a in v.cases])),
    }
    for label, (code, values) in others.items():
        for with_rho, of in (("rho ", ratios), ("", ratios * v.rhos)):
            if v.steady(of / values) and not v.steady(values):
                yield code, {"||eps||": f"{float((of / values)[0]):.4g} {with_rho}{label}"}


def _powers(v: Lengths) -> Iterator[Found]:
    """A power of the norm, or of rho."""
    x, y = np.log(v.sizes), np.log(v.factors)
    if np.ptp(x) > 0.05 and len(x) > 3:
        slope, at = np.polyfit(x, y, 1)
        if np.abs(slope * x + at - y).max() < v.exact:
            yield "ascent.other-norm", {"divided by the norm to the power of": float(-slope)}
    r, length = np.log(v.rhos), np.log(v.factors * v.sizes * v.rhos)
    if np.ptp(r) > 0.05:
        slope, at = np.polyfit(r, length, 1)
        halves = abs(2 * slope - round(2 * slope)) < 1e-4
        if halves and np.abs(slope * r + at - length).max() < v.exact:
            yield "ascent.radius-power", {"power of rho": float(slope)}


def _halves(v: Lengths) -> Iterator[Found]:
    """Right but for a scatter that half precision explains: to both sides, and not with time."""
    ratios = v.factors * v.sizes
    growth = np.diff(ratios)
    goes_with_time = (growth >= 0).all() or (growth <= 0).all()
    error = float(np.abs(ratios - 1).max())
    if error < HALVES and ratios.min() < 1 < ratios.max() and not goes_with_time:
        yield "precision.low", {"error": error, ROUNDED: "half precision"}


LAWS = (
    *(_constant, _bounded, _not_normalised, _partly, _other_norms, _of_other_vectors),
    *(_settings, _powers, _halves),
)
"""What a length may follow, in the order of trust."""


def _over_time(v: Lengths) -> dict[str, Any]:
    """How the length over rho goes with the number of the step."""
    ratios = v.factors * v.sizes
    growth = np.diff(ratios)
    if len(ratios) > 2 and v.steady(growth):
        return {"it grows in every step by": float(growth[0])}
    if len(ratios) > 2 and v.steady(ratios[1:] / ratios[:-1]):
        return {"it is multiplied in every step by": float(ratios[1] / ratios[0])}
    return {}
