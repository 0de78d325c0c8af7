"""What may divide the direction, and what may stand in the place of the radius."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm

TINY = 1e-12


def modules(a: Case) -> list[list[slice]]:
    """The tensors of each module: those whose names are alike up to the last dot."""
    found: dict[str, list[slice]] = {}
    for name, at in zip(a.problem.names, a.problem.slices):
        found.setdefault(name.rpartition(".")[0], []).append(at)
    return list(found.values())


def vectors() -> list[tuple[str, Callable[[Case], Vector]]]:
    """Vectors of a step, whose norm may have been taken for that of the direction."""
    return [
        ("g0", lambda a: a.first),
        ("lam g0 + D", lambda a: a.hyper.lam * a.first + a.draw),
        ("g0 + D", lambda a: a.first + a.draw),
        ("g0 + lam D", lambda a: a.first + a.hyper.lam * a.draw),
        ("lam (g0 + D)", lambda a: a.hyper.lam * (a.first + a.draw)),
        ("lam g0 - D", lambda a: a.hyper.lam * a.first - a.draw),
        ("lam g0 + sigma z", lambda a: a.hyper.lam * a.first + _unscaled(a)),
        ("g0 + sigma z", lambda a: a.first + _unscaled(a)),
        ("lam g0 + z", lambda a: a.hyper.lam * a.first + _unscaled(a) / max(a.hyper.sigma, TINY)),
        ("D", lambda a: a.draw),
        ("sigma z", _unscaled),
        ("g0 + weight_decay w", lambda a: a.first + a.hyper.weight_decay * a.w),
        ("T g0", lambda a: a.reach * a.first),
        ("T^2 g0", lambda a: a.reach**2 * a.first),
        ("w", lambda a: a.w),
        ("g", lambda a: a.seen.gradient(-1)),
    ]


def _unscaled(a: Case) -> Vector:
    """D over the scale of each weight: sigma z, where the draw is right."""
    return a.draw / (a.scale + 1e-300)


Norm = tuple[str, tuple[str, ...], Callable[[Case, Vector], Any]]


def norms() -> list[Norm]:
    """What divides the direction: label, codes, and the divisor of a measured vector."""

    def per_filter(a: Case, v: Vector) -> Vector:
        out = np.empty_like(v)
        for at in a.problem.filters():
            out[at] = norm(v[at])
        return out

    def per_module(a: Case, v: Vector) -> Vector:
        out = np.empty_like(v)
        for parts in modules(a):
            squares = sum(float(v[at] @ v[at]) for at in parts)
            for at in parts:
                out[at] = squares**0.5 + 1e-300
        return out

    def of_tensors(a: Case, v: Vector) -> list[float]:
        return [norm(v[at]) for at in a.problem.slices]

    other = ("ascent.other-norm",)
    one = ("ascent.norm-of-one-tensor",)
    known: list[Norm] = [
        ("the norm", (), lambda a, v: norm(v) + TINY),
        ("nothing", ("ascent.not-normalised",), lambda a, v: 1.0),
        ("the squared norm", ("ascent.squared-norm",), lambda a, v: v @ v + TINY),
        ("the tensors' norms", ("ascent.norm-per-tensor",), lambda a, v: a.by_tensor(norm, v)),
        ("the modules' norms", ("ascent.norm-per-module",), per_module),
        ("the filters' norms", ("ascent.norm-per-filter",), per_filter),
        (
            "the sum of norms",
            ("ascent.sum-of-norms",),
            lambda a, v: sum(norm(v[at]) for at in a.problem.slices),
        ),
        ("the last tensor's norm", one, lambda a, v: norm(v[a.problem.slices[-1]])),
        ("the first tensor's norm", one, lambda a, v: norm(v[a.problem.slices[0]])),
        ("the root of the sum of norms", other, lambda a, v: sum(of_tensors(a, v)) ** 0.5),
        ("the mean of the tensors' norms", other, lambda a, v: float(np.mean(of_tensors(a, v)))),
        ("the largest tensor's norm", other, lambda a, v: max(of_tensors(a, v))),
        ("the largest entry", other, lambda a, v: np.abs(v).max()),
        ("the sum of absolute values", other, lambda a, v: np.abs(v).sum()),
        ("the root mean square", other, lambda a, v: norm(v) / v.size**0.5),
        ("the root of the norm", other, lambda a, v: norm(v) ** 0.5),
        (
            "the weights' norm without biases",
            ("ascent.norm-skips-biases",),
            lambda a, v: norm(v[~a.problem.one_axis]),
        ),
    ]
    return known


Radius = tuple[str, tuple[str, ...], Callable[[Case], Any]]


def radii() -> list[Radius]:
    known: list[Radius] = [
        ("rho", (), lambda a: a.rho),
        ("rho lr", ("ascent.radius-times-lr",), lambda a: a.rho * a.hyper.lr),
        ("rho^2", ("ascent.radius-power",), lambda a: a.rho**2),
        ("rho^0.5", ("ascent.radius-power",), lambda a: a.rho**0.5),
        ("rho ||w||", ("ascent.relative-radius",), lambda a: a.rho * norm(a.w)),
    ]
    return known
