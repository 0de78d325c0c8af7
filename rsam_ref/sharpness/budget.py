"""How long every measure takes, before it starts, and settings with which it ends in time.

A measure is so many losses, gradients and products with the Hessian, which its settings say
(`calls`). Times what each of them takes, that is seconds. Where all measures together would take
too long, each gets an equal share of the time, what a short one leaves going to the others, and its
settings are made smaller by one factor (`scaled`) until it fits: fewer probes, draws, steps and
points. What that costs is in the intervals and bounds of the rows themselves, which widen.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rsam_ref.sharpness.survey import MEASURES, USES, SurveySettings, outer

FACTORS = (1, 0.7, 0.5, 0.35, 0.25, 0.18, 0.13, 0.09, 0.06)
FLOORS = {
    "batches": 1,
    "draws": 2,
    "directions": 2,
    "points": 5,
    "steps": 2,
    "restarts": 0,
    "probes": 2,
    "iterations": 6,
}
"""What settings are made smaller, in proportion to the factor, and down to where."""
ROOTS = ("rhos", "sigmas", "eigenvalues")
"""Those that shrink with the root of the factor, to 2 at least."""
BLOCK = 0.5  # of a whole product, what one costs with a layer alone, the mean over a network's
SCORES = 1.0  # what a product with Gauss-Newton's matrix costs, in the Hessian's


@dataclass(frozen=True)
class Facts:
    """What decides the calls, besides settings."""

    weights: int
    layers: tuple[str, ...]
    """Their names, dotted."""
    samples: int
    mini_batch: int
    """Samples in a mini-batch of the inner maximum."""


@dataclass(frozen=True)
class Calls:
    """How often a measure asks for the mean over all samples."""

    losses: float = 0.0
    gradients: float = 0.0
    products: float = 0.0

    def slower(self, factor: float) -> Calls:
        """How long one of each takes on a machine that is so many times as slow."""
        return Calls(factor * self.losses, factor * self.gradients, factor * self.products)

    def seconds(self, each: Calls) -> float:
        """How long they take, where ``each`` says how long one does."""
        return (
            self.losses * each.losses
            + self.gradients * each.gradients
            + self.products * each.products
        )


def calls(measure: str, settings: SurveySettings, facts: Facts) -> Calls:
    """What a measure asks for, to within a few; for Lanczos' iteration the most that it may."""
    s, radii, scales = settings, len(settings.rhos), len(settings.sigmas)
    climbs = radii * (1 + s.restarts) * (s.steps + 1)
    lanczos = min(max(s.iterations, s.eigenvalues + s.lowest), facts.weights)
    mini = facts.mini_batch / facts.samples
    match measure:
        case "line":
            return Calls(losses=s.directions * s.points)
        case "plane":
            return Calls(losses=s.points**2)
        case "worst":
            return Calls(gradients=climbs)
        case "average":
            return Calls(losses=2 * scales * s.draws)
        case "stability":
            return Calls(gradients=scales * s.draws)
        case "hessian":
            return Calls(losses=2, products=lanczos + s.eigenvalues + s.lowest)
        case "inner":
            paths = sum(k + 1 for k in s.ascent_steps) + 5 * scales * s.draws
            ascent = (2 + s.restarts) * (s.steps + 1)
            return Calls(gradients=mini * s.batches * radii * (paths + ascent))
        case "trace":
            return Calls(losses=2, products=3 * s.probes)
        case "layers":
            blocks = len(grouped(facts.layers, s.depth))
            return Calls(losses=2, products=blocks * (BLOCK * lanczos + 2))
        case "density":
            return Calls(products=s.probes * lanczos)
        case "gauss-newton":
            return Calls(losses=2, gradients=6 * s.probes, products=3 * s.probes + SCORES * lanczos)
        case "eigenplane":
            return Calls(losses=s.points**2, products=lanczos)
        case "kinks":
            return Calls(losses=2 * scales * s.draws, products=scales * s.draws)
        case "m-sharpness":
            return Calls(losses=2, gradients=climbs)
        case "ascents":
            return Calls(losses=mini * s.points**2, gradients=mini * 11)
        case _:
            raise ValueError(f"unknown measure {measure!r}; there are {', '.join(MEASURES)}")


def grouped(names: Sequence[str], depth: int) -> list[str]:
    """Layers told by the first ``depth`` parts of their dotted names, each once; 0: by all."""
    return list(dict.fromkeys(outer(name, depth) for name in names))


def scaled(
    settings: SurveySettings, factor: float, measure: str, held: Collection[str] = ()
) -> SurveySettings:
    """The settings of a measure, made smaller by a factor, but for those that are ``held``."""
    if factor == 1:
        return settings
    smaller: dict[str, Any] = {}
    kept = {"batches", "rhos", "sigmas"} if measure == "ascents" else set()  # it takes the first
    for name in set(USES[measure]) - set(held) - kept:
        value = getattr(settings, name)
        if name in FLOORS:
            smaller[name] = min(value, max(FLOORS[name], round(factor * value)))
        elif name in ROOTS:
            count = value if isinstance(value, int) else len(value)
            fewer = min(count, max(2, math.ceil(count * math.sqrt(factor))))
            smaller[name] = fewer if isinstance(value, int) else _spread(value, fewer)
        elif name == "depth" and not value:
            smaller[name] = 2 if factor >= 0.5 else 1
    if "points" in smaller:  # an odd number has w in the middle
        smaller["points"] -= 1 - smaller["points"] % 2
    found = replace(settings, **smaller)
    if "ascent_steps" in USES[measure] and "ascent_steps" not in held:
        reached = tuple(k for k in found.ascent_steps if k <= found.steps)
        found = replace(found, ascent_steps=reached)
    return found


def _spread(values: Sequence[float], count: int) -> tuple[float, ...]:
    """As many of the values, evenly, the first and the last among them."""
    last = len(values) - 1
    return tuple(values[round(i * last / (count - 1))] for i in range(count))


@dataclass(frozen=True)
class Planned:
    """A measure's settings, and about how long it takes with them."""

    measure: str
    settings: SurveySettings
    seconds: float

    def smaller(self, than: SurveySettings) -> str:
        """What of its settings is smaller than in others, in words; empty for nothing."""
        told = []
        for name in USES[self.measure]:
            own, usual = getattr(self.settings, name), getattr(than, name)
            if own != usual:
                shown = [
                    " ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else f"{value}"
                    for value in (own, usual)
                ]
                told.append(f"{name} {shown[0]} ({shown[1]})")
        return ", ".join(told)


SHARED = {"eigenplane": "hessian", "gauss-newton": "trace"}
"""Whose products a measure takes over where both are taken, with the same settings."""


def planned(
    measures: Sequence[str],
    settings: SurveySettings,
    facts: Facts,
    each: Mapping[str, Calls],
    *,
    seconds: float,
    held: Collection[str] = (),
    already: Sequence[Planned] = (),
) -> list[Planned]:
    """Settings for every measure, so that all of them take no more than so many seconds.

    ``each`` says how long one loss, one gradient and one product take, by measure. More than that
    they take only where the smallest settings do. ``held`` names what stays as it is, ``already``
    what has been measured: it stays too, and takes none of the seconds.
    """
    providers = {name: SHARED[name] for name in measures if SHARED.get(name) in measures}
    done = {planned.measure: planned for planned in already}

    def candidate(name: str, factor: float) -> Planned:
        own = scaled(settings, factor, name, held)
        if name not in providers:
            return Planned(name, own, calls(name, own, facts).seconds(each[name]))
        provider = providers[name]
        of = done[provider].settings if provider in done else own
        own = replace(own, **{n: getattr(of, n) for n in _decisive(provider, name)})
        asked, taken = calls(name, own, facts), calls(provider, own, facts)
        asked = replace(asked, products=max(0.0, asked.products - taken.products))
        return Planned(name, own, asked.seconds(each[name]))

    full = {name: candidate(name, 1) for name in measures if name not in done}
    order = sorted(full, key=lambda name: (name in providers, full[name].seconds))
    left = seconds
    for number, name in enumerate(order):
        share = left / (len(order) - number)
        for factor in FACTORS:
            found = candidate(name, factor)
            if found.seconds <= share:
                break
        done[name] = found
        left -= done[name].seconds
    return [done[name] for name in measures]


def _decisive(provider: str, name: str) -> list[str]:
    """The settings that both use, and that decide what one takes over of the other."""
    return [n for n in USES[provider] if n in USES[name] and n != "samples"]
