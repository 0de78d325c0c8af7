"""Whether a run is one of SAM's relatives: their own rules, replayed on what was observed.

A rule of `rsam_ref.algorithms.relatives` is called as its optimizer calls it, but the gradients
that it asks for are those that the implementation took, and only where it took them. A rule that
asks elsewhere is not the one. What the rule gives to its base must then be what moved the weights.
So every relative is recognised by the lines that it is defined by, and there is no formula here.

Settings that nobody passes are looked for: among the implementation's own numbers, the published
and the usual ones, and by a fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsam_ref.algorithms.relatives import RELATIVES, ApartTrace, Relative
from rsam_ref.algorithms.relatives.form import Setting
from rsam_ref.algorithms.sam import rsam_gradient, sam_gradient
from rsam_ref.algorithms.variants import asam_gradient
from rsam_ref.conformance.ascent.case import Case, Vector, norm
from rsam_ref.conformance.ascent.hidden import random_perturbation
from rsam_ref.conformance.base_step.fed import Fed, Option, gradients
from rsam_ref.conformance.observe.problem import BATCH
from rsam_ref.conformance.report.entry import Entry

USUAL = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0, 2.0)
EXACT = 1e-6
"""How far a point or a gradient may be from the rule's, relative to its length."""
MOST = 3000
"""Combinations of settings that are tried of one rule."""

SLIPS = ("usam", "unified-sam", "le-sam", "esam", "sparse-sam", "rst")
"""Relatives that are SAM with one thing done otherwise, for which a finding is there; it stays."""
CODES = {
    "wsam-coupled": "wsam",
    "looksam-by-tensor": "looksam",
    "rwp": "noise-only",
    "arwp": "noise-only",
    "m-rwp": "rwp",
}
"""Relatives that are told by another one's code."""

FINDINGS = {
    f"algorithm.{r.name}": Entry(
        f"this is {r.title}: {r.update}",
        f"another algorithm ({r.source}), of {r.gradients} gradients a step",
        "eps = rho g0 / ||g0||, and the base steps with the gradient at w + eps",
    )
    for r in RELATIVES.values()
    if r.name not in SLIPS and r.name not in CODES
}
"""An entry for every relative that has not another one's."""

Values = dict[str, float]


class NotFollowedError(Exception):
    """The rule asks for a gradient that the implementation did not take."""


@dataclass
class Known:
    """A relative that explains a run: its settings, what its base was given, how well that fits."""

    relative: Relative
    settings: Values
    gradients: list[Vector]
    apart: list[Vector] | None
    error: float
    """How far the gradients are from those that moved the weights, if the base is as asked for."""

    @property
    def label(self) -> str:
        """The relative and the settings that were found."""
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.settings.items())
        return f"{self.relative.title}{f' ({values})' if values else ''}"

    def again(self, cases: list[Case], tolerance: float = EXACT) -> Known | None:
        """The same rule with the same settings on other steps; None where it asks elsewhere."""
        implied = implied_gradients(cases)
        return _replayed(self.relative, self.settings, cases, implied, max(EXACT, tolerance))

    def since(self, step: int) -> Option:
        """What the base was given from a step on, for the base step's judge."""
        gradients: Any = self.gradients[step:]
        if self.apart is not None:
            gradients = gradients, self.apart[step:]
        return Option(self.label, (), gradients)


def explained(cases: list[Case], algorithm: str) -> bool:
    """Whether the algorithm itself asks where the run did, whatever moved the weights then."""
    for a in cases:
        at = Observed(a, 10 * EXACT)
        try:
            if algorithm == "sam":
                sam_gradient(at, a.w, rho=a.hyper.rho)
            elif algorithm == "asam":
                asam_gradient(at, a.w, rho=a.hyper.rho, eta=a.hyper.eta)
            else:
                rsam_gradient(at, a.w, a.draw, rho=a.hyper.rho, lam=a.hyper.lam)
        except NotFollowedError:
            return False
    return (
        _error([a.seen.gradient(-1) for a in cases], None, implied_gradients(cases), cases) < 0.01
    )


def recognise(cases: list[Case], tolerance: float = EXACT) -> list[Known]:
    """The relatives whose rules ask where the run did, the best first."""
    implied = implied_gradients(cases)
    within = max(EXACT, tolerance)
    found = []
    for relative in RELATIVES.values():
        known = _best(relative, cases, implied, within)
        if known is not None and not _is_sam(known, cases, within) and not _at_an_end(known):
            found.append(known)
    return sorted(found, key=lambda known: (known.error > EXACT, len(known.settings), known.error))


def _is_sam(known: Known, cases: list[Case], within: float) -> bool:
    """Whether it is SAM's ascent, with one of the gradients that have names of their own."""
    for a in cases:
        sam = a.hyper.rho / norm(a.first) * a.first
        if norm(a.eps - sam) > within * a.hyper.rho:
            return False
    named = [option.value for option in gradients(Fed(cases))]
    return known.apart is None and any(
        all(norm(u - v) <= within * norm(u) for u, v in zip(known.gradients, vectors))
        for vectors in named
    )


def _at_an_end(known: Known) -> bool:
    """Whether a setting that fits is 0 or the like, with which the rule is a simpler one."""
    ranges = known.relative.settings
    return any(
        not ranges[name].whole and value - ranges[name].low < EXACT
        for name, value in known.settings.items()
    )


def implied_gradients(cases: list[Case]) -> list[Vector]:
    """What SGD as it was asked for must have been given, from how the weights moved."""
    velocity = np.zeros_like(cases[0].w)
    found = []
    for a in cases:
        moved = (a.w - a.seen.after) / max(a.hyper.lr, 1e-300)
        found.append(moved - a.hyper.momentum * velocity - a.hyper.weight_decay * a.w)
        velocity = moved
    return found


def _best(
    relative: Relative, cases: list[Case], implied: list[Vector], tolerance: float
) -> Known | None:
    """The rule with the settings that fit best; None where it asks elsewhere with all of them."""
    counts = {len(a.seen.points) for a in cases}
    if "coin" in relative.needs and len(counts) == 1:
        return None  # nothing was decided by chance
    best: Known | None = None
    candidates = list(_candidates(relative, cases))
    for settings in candidates:
        known = _replayed(relative, settings, cases, implied, tolerance)
        if known is not None and (best is None or known.error < best.error):
            best = known
            if best.error < tolerance:
                break
    if best is None:
        best = _led(relative, candidates[0], cases, implied, tolerance) if candidates else None
    if best is None or best.error < tolerance:
        return best
    return _fitted(best, cases, implied, tolerance)


def _led(
    relative: Relative, settings: Values, cases: list[Case], implied: list[Vector], tolerance: float
) -> Known | None:
    """The rule with one setting moved to where it asks nearest to the observed places."""
    for name in settings:
        setting = relative.settings[name]
        if setting.whole:
            continue

        def asked(value: float, name: str = name) -> tuple[Known | None, list[Observed]]:
            places = [Observed(a, np.inf) for a in cases]
            at = settings | {name: value}
            return _replayed(relative, at, cases, implied, tolerance, places), places

        def away(value: float) -> float:
            known, places = asked(value)
            return 1e9 if known is None else max(place.away for place in places)

        another = setting.default / 2 or 0.1
        if _elsewhere(asked(setting.default)[1], asked(another)[1], tolerance):
            continue
        if (
            known := _replayed(
                relative, settings | {name: _least(away, setting)}, cases, implied, tolerance
            )
        ) is not None:
            return known
    return None


def _elsewhere(places: list[Observed], others: list[Observed], tolerance: float) -> bool:
    """Whether some gradient is asked for elsewhere, as far away with one value as with another."""
    return any(
        x == y > tolerance
        for place, other in zip(places, others)
        for x, y in zip(place.each, other.each)
    )


def _least(f: Callable[[float], float], setting: Setting) -> float:
    """Where f is least, for values that a setting may have."""
    from scipy.optimize import minimize_scalar  # takes a while to load, and is rarely needed

    bounds = setting.low, min(setting.high, 4.0)
    grid = np.linspace(*bounds, 21)[1:]
    middle = min(grid, key=f)
    width = grid[1] - grid[0]
    near = max(bounds[0], middle - width), min(bounds[1], middle + width)
    found = minimize_scalar(f, bounds=near, method="bounded", options={"xatol": 1e-12})
    return float(found.x)


def _fitted(known: Known, cases: list[Case], implied: list[Vector], tolerance: float) -> Known:
    """The same rule with one setting at a time moved to where the gradients fit best."""

    def tried(settings: Values) -> Known | None:
        return _replayed(known.relative, settings, cases, implied, tolerance)

    best = known
    for name, setting in known.relative.settings.items():
        if name not in known.settings or setting.whole:
            continue

        def error(value: float, name: str = name, settings: Values = best.settings) -> float:
            at = tried(settings | {name: value})
            return 1e9 if at is None else at.error

        better = tried(best.settings | {name: _least(error, setting)})
        if better is not None and better.error < best.error:
            best = better
    return best


def _candidates(relative: Relative, cases: list[Case]) -> Iterator[Values]:
    """Settings to try, the likeliest first; without those that are passed or observed."""
    hints = [
        float(v)
        for v in cases[0].seen.base.hints.values()
        if isinstance(v, int | float) and not isinstance(v, bool)
    ]
    names = [name for name in relative.settings if not _given(name, relative)]
    choices = [_values(name, relative.settings[name], hints, cases) for name in names]
    for values in itertools.islice(itertools.product(*choices), MOST):
        yield dict(zip(names, values))


def _given(name: str, relative: Relative) -> bool:
    """Whether a setting is passed, or shows in what was observed."""
    return name == "rho" or SHOWN.get(name) in relative.needs


SHOWN = {"sigma": "noise", "beta": "mask", "sparsity": "samples", "p": "coin"}
"""Settings whose values show in what was drawn, by what the rule is given of that."""


def _values(name: str, setting: Setting, hints: list[float], cases: list[Case]) -> list[float]:
    if name == "k":  # a period: how often there is more than one gradient
        often = [t for t, a in enumerate(cases) if len(a.seen.points) > 1]
        return [often[1] - often[0]] if len(often) > 1 else [len(cases)]
    if setting.whole:
        return [setting.default, 1]
    values = dict.fromkeys([*hints, float(setting.default), *USUAL])
    return [v for v in values if setting.low <= v <= setting.high and v != setting.low]


def _replayed(
    relative: Relative,
    settings: Values,
    cases: list[Case],
    implied: list[Vector],
    tolerance: float,
    places: list[Observed] | None = None,
) -> Known | None:
    """The rule on the observed gradients; None if it asks for others, or not for all of them."""
    state: Any = {}
    gradients: list[Vector] = []
    apart: list[Vector] = []
    for t, a in enumerate(cases):
        observed = Observed(a, tolerance) if places is None else places[t]
        needs = {name: NEEDS[name](a, t, state) for name in relative.needs if name in NEEDS}
        if len(needs) < len(relative.needs):
            return None
        shown = _shown(relative, a)
        if shown is None:
            return None
        try:
            with np.errstate(all="ignore"):
                found = relative.rule(observed, a.w, **needs, **shown, **settings)
        except (NotFollowedError, ValueError):
            return None
        trace, state = found if "state" in relative.needs else (found, state)
        if observed.left():
            return None
        gradients.append(trace.gradient)
        if isinstance(trace, ApartTrace):
            apart.append(trace.apart)
    parted = apart if apart else None
    return Known(relative, settings, gradients, parted, _error(gradients, parted, implied, cases))


def _error(
    gradients: list[Vector], apart: list[Vector] | None, implied: list[Vector], cases: list[Case]
) -> float:
    """The largest difference from what moved the weights, relative to it."""
    if apart is None:
        return max(norm(u - v) / norm(v) for u, v in zip(gradients, implied))
    error = 0.0
    velocity = np.zeros_like(gradients[0])
    for a, u, past in zip(cases, gradients, apart):
        velocity = a.hyper.momentum * velocity + u + a.hyper.weight_decay * a.w
        moved = (a.w - a.seen.after) / max(a.hyper.lr, 1e-300)
        error = max(error, norm(velocity + past - moved) / norm(moved))
    return error


class Observed:
    """``loss_and_grad`` of one step: the gradients that were taken, where they were taken."""

    def __init__(self, case: Case, tolerance: float) -> None:
        self.case = case
        self.tolerance = tolerance
        self.asked = 0
        self.away = 0.0
        """How far the rule asked from the observed places, relative to the perturbations."""
        self.each: list[float] = []
        """The same of every gradient."""

    def __call__(self, at: Vector) -> tuple[float, Vector]:
        """The next observed gradient, if it was taken there."""
        points = self.case.seen.points
        if self.asked == len(points):
            raise NotFollowedError
        point = points[self.asked]
        way = norm(point - self.case.w) + 1e-9 * norm(self.case.w)
        self.each.append(norm(at - point) / way)
        self.away = max(self.away, self.each[-1])
        if not self.away <= self.tolerance:
            raise NotFollowedError
        self.asked += 1
        return 0.0, self.case.seen.gradient(self.asked - 1)

    def left(self) -> int:
        """How many gradients were taken that the rule did not ask for."""
        return len(self.case.seen.points) - self.asked


def _shown(relative: Relative, a: Case) -> Values | None:
    """The settings that are passed or observed; None where what was drawn is not the rule's."""
    found = {"rho": a.hyper.rho} if "rho" in relative.settings else {}
    moved = a.eps != 0
    if "mask" in relative.needs:
        ratio = a.hyper.rho / norm(a.first) * norm(a.first[moved]) / norm(a.eps[moved])
        if moved.all() or abs(ratio - moved.mean()) > 0.1:  # eps is 1 / beta as long
            return None
        found["beta"] = ratio
    if "samples" in relative.needs:
        if moved.all():
            return None
        found["sparsity"] = float(((~moved).sum() - 0.5) / moved.size)
    if "coin" in relative.needs:
        found["p"] = 0.5
    if "noise" in relative.needs and not random_perturbation([a]):
        return None
    return found


def _noise(a: Case, t: int, state: Any) -> Vector:
    """D, where a gradient was taken away from w: at the first or at the last place."""
    first = a.seen.points[0] - a.w
    return first if first.any() else a.seen.last - a.w


def _velocity(a: Case, t: int, state: Any) -> Vector:
    """The last move of the weights, which has the velocity's direction."""
    return np.zeros_like(a.w) if a.before is None else a.before.w - a.before.seen.after


def _samples(a: Case, t: int, state: Any) -> Callable[[int], list[Any]]:
    """Every sample of the mini-batch by itself; their gradients are computed here."""

    def alone(row: int) -> Callable[[Vector], tuple[float, Vector]]:
        return lambda w: a.problem.loss_and_grad(w, a.seen.number, frozenset([row]))

    return lambda count: [alone(row) for row in range(min(count, BATCH))]


NEEDS: dict[str, Callable[[Case, int, Any], Any]] = {
    "state": lambda a, t, state: state,
    "step": lambda a, t, state: t,
    "tensors": lambda a, t, state: a.problem.slices,
    "coin": lambda a, t, state: 0.0 if len(a.seen.points) > 1 else 0.9,
    "mask": lambda a, t, state: (a.eps != 0).astype(float),
    "noise": _noise,
    "velocity": _velocity,
    "samples": _samples,
}
"""What rules need, from what was observed: the draws are those that were made."""
