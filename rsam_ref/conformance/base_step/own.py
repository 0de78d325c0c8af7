"""What a step did with its own base optimizer: which gradients it was given, and from where.

The base is replayed on a shadow (replay.py), so nothing is assumed of it. What may depart from the
algorithm is what it was fed with: other gradients, other weights, two steps, a cut gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent import relatives
from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step.replay import replayed
from rsam_ref.conformance.hypotheses import EXACT, Hypothesis, Verdict, choose
from rsam_ref.conformance.observe.base import Base

Vector = np.ndarray
LENGTHS = (1.0, 0.1, 0.25, 0.5, 2.0, 5.0, 10.0)
"""Lengths that gradients are usually cut to."""
CLIPS = ("clip", "max_norm", "max_grad", "grad_norm", "threshold")


class Fed:
    """What a base may have been given: full vectors (P,), one a step."""

    def __init__(self, cases: list[Case]) -> None:
        self.cases = cases
        self.w = [a.w for a in cases]
        self.after = [a.seen.after for a in cases]
        self.first = [a.seen.gradient(0) for a in cases]
        self.last = [a.seen.gradient(-1) for a in cases]
        self.first_point = [a.seen.points[0] for a in cases]
        self.last_point = [a.seen.last for a in cases]
        self.decays = [a.hyper.weight_decay for a in cases]

    @property
    def base(self) -> Base | None:
        """The base optimizer, if it is known in every step."""
        return self.cases[0].seen.base.base if all(a.seen.base.base for a in self.cases) else None

    def ends(self, starts: list[Vector], gradients: list[Any]) -> list[Vector]:
        """Where its base takes it."""
        assert self.base is not None
        return replayed(self.base, starts, gradients, [a.seen.base.settings for a in self.cases])


Option = tuple[str, tuple[str, ...], list[Vector]]


def gradients(fed: Fed) -> Iterator[Option]:
    """What is used as the gradient."""
    yield "g", (), fed.last
    yield from clipped(fed)
    if any(len(a.seen.points) > 1 for a in fed.cases):
        yield "g0", ("update.uses-first-gradient",), fed.first
        yield "g0 + g", ("update.gradients-added",), _mixed(fed, 1, 1)
        yield "(g0 + g) / 2", ("update.gradients-averaged",), _mixed(fed, 0.5, 0.5)
    yield "-g", ("update.ascends",), _mixed(fed, 0, -1)
    stale = ("update.stale-gradient",)
    yield "the last step's g", stale, [np.zeros_like(fed.last[0]), *fed.last[:-1]]
    yield "the last step's g, in the first step g", stale, [fed.last[0], *fed.last[:-1]]
    moved = [g + wd * (q - w) for g, wd, q, w in zip(fed.last, fed.decays, fed.last_point, fed.w)]
    yield "g, weight decay at w + eps", ("update.decay-at-perturbed",), moved
    yield from relatives.second_order(fed.cases)


def clipped(fed: Fed) -> Iterator[Option]:
    """The second gradient, cut to a length or entry by entry."""
    lengths = [float(np.linalg.norm(g)) for g in fed.last]
    for c in clip_lengths(fed.cases):
        if max(lengths) > c:
            for small in (1e-6, 0.0, 1e-12):
                cut = [g * min(1.0, c / (size + small)) for g, size in zip(fed.last, lengths)]
                yield f"g cut to length {c:g}", ("update.clipped",), cut
        if max(float(np.abs(g).max()) for g in fed.last) > c:
            values = [np.clip(g, -c, c) for g in fed.last]
            yield f"g cut at {c:g} entry by entry", ("update.clipped",), values


def clip_lengths(cases: list[Case]) -> list[float]:
    """Lengths that the gradient may be cut to: those held by such a name, and usual ones."""
    hints = cases[0].seen.base.hints
    own = [
        float(value)
        for name, value in hints.items()
        if any(part in name.lower() for part in CLIPS) and isinstance(value, int | float)
    ]
    return list(dict.fromkeys([*(c for c in own if c > 0), *LENGTHS]))


def starts(fed: Fed) -> Iterator[Option]:
    """Where the base step starts from."""
    yield "w", (), fed.w
    yield "w + eps", ("restore.not-undone",), fed.last_point
    undone = [2 * w - q for w, q in zip(fed.w, fed.last_point)]
    yield "w - eps", ("restore.undone-twice",), undone
    recomputed = []
    for a, g in zip(fed.cases, fed.last):
        eps = a.rho * g / (np.linalg.norm(g) + 1e-300)
        recomputed.append(a.seen.last - eps)
    yield "w + eps - eps'", ("restore.recomputed",), recomputed
    if any((p != w).any() for p, w in zip(fed.first_point, fed.w)):
        removed = ("noise.not-removed",)
        yield "w + D", removed, fed.first_point
        yield "w - D", removed, [2 * w - p for w, p in zip(fed.w, fed.first_point)]
        both = [q + p - w for q, p, w in zip(fed.last_point, fed.first_point, fed.w)]
        yield "w + eps + D", ("restore.not-undone", "noise.not-removed"), both
    if len(fed.w) > 1:
        older = [fed.w[0], *fed.w[:-1]]
        yield "the weights of the step before", ("restore.older-weights",), older


def explanations(fed: Fed) -> Iterator[Hypothesis]:
    """All combinations of gradient and start, and more than one step of the base."""
    for g_label, g_codes, g in gradients(fed):
        for w_label, w_codes, w in starts(fed):
            yield _hypothesis(fed, f"{g_label}, {w_label}", (*w_codes, *g_codes), w, g)
    if fed.base is None or all(len(a.seen.points) < 2 for a in fed.cases):
        return
    both: list[Any] = list(zip(fed.first, fed.last))
    yield _hypothesis(fed, "two base steps", ("update.two-steps",), fed.w, both)
    for label, places in (("w", fed.w), ("w + D", fed.first_point), ("w + eps", fed.last_point)):
        if label == "w" or any((p != w).any() for p, w in zip(places, fed.w)):
            yield _twice(fed, places, label)


def _hypothesis(
    fed: Fed, label: str, codes: tuple[str, ...], w: list[Vector], g: list[Any]
) -> Hypothesis:
    number = {id(a): t for t, a in enumerate(fed.cases)}
    found: list[list[Vector]] = []

    def predict(a: Case) -> Vector:
        if not found:
            found.append(fed.ends(w, g))
        return found[0][number[id(a)]]

    assert fed.base is not None
    return Hypothesis(tuple(dict.fromkeys(codes)), predict, f"{label}, {fed.base.name} replayed")


def _twice(fed: Fed, places: list[Vector], label: str) -> Hypothesis:
    """Its state takes in both gradients, the first at ``places``; the second's move is kept."""
    number = {id(a): t for t, a in enumerate(fed.cases)}
    found: list[list[Vector]] = []

    def predict(a: Case) -> Vector:
        if not found:
            assert fed.base is not None
            shadow = fed.base.shadow()
            ends = []
            for case, place, w, g0, g in zip(fed.cases, places, fed.w, fed.first, fed.last):
                shadow.step(place, g0, case.seen.base.settings)
                ends.append(shadow.step(w, g, case.seen.base.settings))
            found.append(ends)
        return found[0][number[id(a)]]

    return Hypothesis(("update.momentum-twice",), predict, f"g0 at {label} and g into the state")


def _mixed(fed: Fed, a: float, b: float) -> list[Vector]:
    return [a * x + b * y for x, y in zip(fed.first, fed.last)]


def judge_replay(cases: list[Case], tolerance: float = EXACT) -> Verdict | None:
    """Which explanation fits where the weights went; None where no base is known."""
    fed = Fed(cases)
    if fed.base is None:
        return None
    try:
        return choose(
            list(explanations(fed)),
            cases,
            lambda a: a.seen.after,
            lambda a: float(np.linalg.norm(a.seen.after - a.w)),
            tolerance,
        )
    except Exception:  # a base that wants more than gradients cannot be replayed
        return None
