"""What an implementation does not say is found by trying it: how it is called, where its settings
are, and what they are where they cannot be changed.

One step or two on the problem tell: the length of eps follows rho, that of the draw sigma, its
direction lam, and the step's length alone lr. A record is no setting: where nothing follows what
is written, nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsam_ref.conformance.observe.names import SETTINGS, setting_of
from rsam_ref.conformance.observe.observer import BrokenError, Step, watch
from rsam_ref.conformance.observe.places import Found, Place, places
from rsam_ref.conformance.observe.problem import Hyper

FACTOR = 1.5
"""What a value is multiplied by to see what follows."""

NEAR = 0.04
"""How far a length may be from what would follow: draws differ from run to run."""

MOST_TRIED = 16

Afresh = Callable[[], None]
"""Sets the global generators to where they were."""


@dataclass(frozen=True)
class Traits:
    """What can be seen of two steps: lengths and directions."""

    draw: float
    """||q1 - w||"""
    ascent: float
    """||q2 - w||"""
    direction: np.ndarray
    move: np.ndarray
    second: np.ndarray
    """The move of the second step."""
    w: np.ndarray

    def same(self, other: Traits) -> bool:
        return (
            np.array_equal(self.direction, other.direction)
            and np.array_equal(self.move, other.move)
            and np.array_equal(self.second, other.second)
        )


def traits_of(steps: list[Step]) -> Traits:
    first, second = steps[0], steps[-1]
    points = [e.at for e in first.evaluations] or [first.before]
    eps = points[-1] - first.before
    length = float(np.linalg.norm(eps))
    return Traits(
        float(np.linalg.norm(points[0] - first.before)),
        length,
        eps / (length or 1.0),
        first.after - first.before,
        second.after - second.before,
        first.before,
    )


def follows(before: Traits, after: Traits, factor: float, repeatable: bool = True) -> str | None:
    """Which setting a value must be that was multiplied by ``factor``; None: none of them.

    Where draws are new in every run (not ``repeatable``), only lengths tell. A ``factor`` of NaN
    is that of a value that was 0.
    """
    small = 1e-6 * float(np.linalg.norm(before.w))
    noisy = before.draw > small
    if noisy != (after.draw > small):
        return "sigma" if not noisy and np.isnan(factor) else None
    if noisy and not _is(1, before.draw, after.draw):
        return "sigma" if _is(factor, before.draw, after.draw) else None
    if before.ascent <= small:
        return "rho" if after.ascent > small and np.isnan(factor) else None
    if not _is(1, before.ascent, after.ascent):
        return "rho" if _is(factor, before.ascent, after.ascent) else None
    if not repeatable:
        return None
    turned = 1 - float(before.direction @ after.direction)
    if turned > 1e-9:
        return "lam" if noisy and np.isclose(before.ascent, after.ascent, rtol=1e-6) else None
    return _of_the_base(before, after, factor)


def _is(factor: float, before: float, after: float) -> bool:
    return abs(after / before / factor - 1) < NEAR


def _of_the_base(before: Traits, after: Traits, factor: float) -> str | None:
    """Which setting of the base step a value is, by how the moves change."""
    change = after.move - before.move
    size = float(np.linalg.norm(change))
    if size > 1e-9 * np.linalg.norm(before.move):
        if np.linalg.norm(after.move - factor * before.move) < 1e-6 * np.linalg.norm(after.move):
            return "lr"
        return "weight_decay" if _parallel(change, before.w) else None
    later = after.second - before.second
    if float(np.linalg.norm(later)) > 1e-9 * np.linalg.norm(before.second):
        return "momentum" if _parallel(later, before.move) else None
    return None


def _parallel(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(abs(float(a @ b)) > (1 - 1e-6) * np.linalg.norm(a) * np.linalg.norm(b))


class Trying:
    """Finds the settings of an optimizer.

    Parameters
    ----------
    make:
        Makes a subject from a Hyper and what was `Found` so far.
    asked:
        The settings that the algorithm has.
    """

    def __init__(
        self,
        make: Callable[[Hyper, Found], Any],
        hyper: Hyper,
        asked: Iterable[str],
        afresh: Afresh,
    ) -> None:
        self.make, self.hyper, self.afresh = make, hyper, afresh
        self.asked = tuple(asked)

    def find(self) -> Found:
        """Where each setting is; what no trial told is left as the implementation has it."""
        subject = self.make(self.hyper, Found(places={}))
        self.usual = self._seen(Found(places={}))
        if self.usual is None:  # it only runs with the settings written: as the names say
            return Found()
        by_name = self._by_name(subject)
        found = Found(places=by_name)
        missing = [
            s
            for s in subject.made.not_passed
            if s in self.asked and s not in found.places  # type: ignore[operator]
        ]
        if missing:
            found = self._renamed(subject, found, missing)
            missing = [s for s in missing if s not in found.renamed.values()]
        if missing:
            found = self._elsewhere(subject, found, missing)
        return found

    def _seen(
        self, found: Found, hyper: Hyper | None = None, write: tuple[Place, float] | None = None
    ) -> Traits | None:
        """Two steps, made afresh; None where they raise."""
        try:
            self.afresh()
            hyper = hyper or self.hyper
            subject = self.make(hyper, found)
            if write is not None and not subject.write(*write):
                return None
            return traits_of(watch(subject, [hyper] * 2))
        except BrokenError:
            return None
        except Exception:
            return None

    def _changes(self, seen: Traits | None) -> bool:
        """Whether what was tried shows at all; with draws that are new each time, clearly."""
        if seen is None or self.usual is None:
            return False
        if self.usual.same(seen):
            return False
        if self._is_repeatable:
            return True
        pairs = ((self.usual.draw, seen.draw), (self.usual.ascent, seen.ascent))
        lengths = any(abs(b - a) > NEAR * max(a, b) for a, b in pairs)
        turned = float(self.usual.direction @ seen.direction)
        return lengths or abs(turned - self._usual_turn) > 0.1

    @property
    def _is_repeatable(self) -> bool:
        if not hasattr(self, "_again"):
            self._again = self._seen(Found(places={}))
        return self._again is not None and self.usual is not None and self.usual.same(self._again)

    @property
    def _usual_turn(self) -> float:
        assert self.usual is not None
        return float(self.usual.direction @ self._again.direction) if self._again else 1.0

    def _by_name(self, subject: Any) -> dict[str, tuple[Place, ...]]:
        """The places that go by the name of a setting, and that something follows.

        A setting that the constructor takes in vain is written all the same: it is ignored.
        """
        kept: dict[str, list[Place]] = {}
        records: dict[str, list[Place]] = {}
        for place, value in places(subject.optimizer, subject.groups):
            setting = setting_of(place.name)
            if setting is None or setting not in self.asked or setting not in WRITTEN:
                continue
            if setting == "lr" and subject.settable("lr"):
                continue
            to = getattr(self.hyper, setting) if value == 0 else FACTOR * value
            changes = self._changes(self._seen(Found(places={}), write=(place, to)))
            (kept if changes else records).setdefault(setting, []).append(place)
        for setting, own in records.items():
            if setting in kept or setting in subject.made.not_passed or setting == "lr":
                continue
            other = self.hyper.but(**{setting: FACTOR * getattr(self.hyper, setting)})
            if not self._changes(self._seen(Found(places={}), other)):
                kept[setting] = own
        return {setting: tuple(own) for setting, own in kept.items()}

    def _renamed(self, subject: Any, found: Found, missing: list[str]) -> Found:
        """Which numbers that its constructor takes are the missing settings."""
        renamed: dict[str, str] = {}
        for name, value in list(subject.made.numbers.items())[:MOST_TRIED]:
            factor, to = (FACTOR, FACTOR * value) if value else (np.nan, 0.1)
            seen = self._seen(Found(found.places, {}, {name: to}))
            setting = self._told(seen, factor, missing)
            if setting is not None and setting not in renamed.values():
                renamed[name] = setting
        return Found(found.places, renamed, {})

    def _elsewhere(self, subject: Any, found: Found, missing: list[str]) -> Found:
        """Which numbers that it holds under other names are the missing settings."""
        own = dict(found.places or {})
        tried = 0
        for place, value in places(subject.optimizer, subject.groups):
            if setting_of(place.name) is not None or not value or tried >= MOST_TRIED:
                continue
            tried += 1
            seen = self._seen(found, write=(place, FACTOR * value))
            setting = self._told(seen, FACTOR, missing)
            if setting is not None and setting in WRITTEN:
                own[setting] = (*own.get(setting, ()), place)
        return Found(own, found.renamed, found.numbers)

    def _told(self, seen: Traits | None, factor: float, missing: list[str]) -> str | None:
        if seen is None or self.usual is None or not self._changes(seen):
            return None
        setting = follows(self.usual, seen, factor, self._is_repeatable)
        return setting if setting in missing else None


WRITTEN = ("rho", "sigma", "lam", "lr")
"""What the check changes between steps."""


def asked_for(algorithm: str) -> tuple[str, ...]:
    """The settings that an algorithm has."""
    return tuple(s for s in SETTINGS if algorithm == "rsam" or s not in ("sigma", "lam"))


def best_order(
    orders: Iterable[Any],
    run: Callable[[Any], Step],
    rsam: bool,
    raised: dict[Any, Exception],
    *,
    must_return: bool = False,
) -> Any:
    """The order of calls after which the weights are nearest to where they were; None: none works.

    ``run`` takes one step, with a tiny learning rate. What the others raise is kept in ``raised``.
    ``must_return`` leaves out orders after which the weights are still where the ascent led.
    """
    best: tuple[float, float, float] | None = None
    chosen = None
    for way in orders:
        try:
            step = run(way)
        except Exception as error:
            raised[way] = error
            continue
        places_ = {e.at.tobytes() for e in step.evaluations}
        if len(places_) < 2 or not np.isfinite(step.after).all():
            continue
        drawn = not np.array_equal(step.evaluations[0].at, step.before)
        moved = float(np.linalg.norm(step.after - step.before))
        away = float(np.linalg.norm(step.evaluations[-1].at - step.before))
        if must_return and moved > 0.5 * away:
            continue
        rank = (float(rsam and not drawn), float(moved == 0 or moved > 0.5 * away), moved)
        if best is None or rank < best:
            best, chosen = rank, way
    return chosen
