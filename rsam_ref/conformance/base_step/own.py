"""What a step did with its own base optimizer: which gradients it was given, and from where.

The base is replayed on a shadow (replay.py), so nothing is assumed of it. What may depart from the
algorithm is what it was fed with: other gradients, other weights, two steps, a cut gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent import relatives
from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step.fed import Fed, Option, gradients, starts
from rsam_ref.conformance.base_step.replay import replayed
from rsam_ref.conformance.hypotheses import EXACT, Hypothesis, Verdict, at_once, choose

Vector = np.ndarray
LENGTHS = (1.0, 0.1, 0.25, 0.5, 2.0, 5.0, 10.0)
"""Lengths that gradients are usually cut to."""
CLIPS = ("clip", "max_norm", "max_grad", "grad_norm", "threshold")


def ends(fed: Fed, starts: list[Vector], gradients: list[Any]) -> list[Vector]:
    """Where its base takes it."""
    assert fed.base is not None
    return replayed(fed.base, starts, gradients, [a.seen.base.settings for a in fed.cases])


def all_gradients(fed: Fed) -> Iterator[Option]:
    """What is used as the gradient; a base that is not known by formula may cut it besides."""
    yield from gradients(fed)
    yield from clipped(fed)
    moved = [
        g + a.hyper.weight_decay * (q - w)
        for a, g, q, w in zip(fed.cases, fed.last, fed.last_point, fed.w)
    ]
    yield Option("g, weight decay at w + eps", ("update.decay-at-perturbed",), moved)
    for label, codes, full in relatives.second_order(fed.cases):
        yield Option(label, codes, full)


def clipped(fed: Fed) -> Iterator[Option]:
    """The second gradient, cut to a length or entry by entry."""
    lengths = [float(np.linalg.norm(g)) for g in fed.last]
    for c in clip_lengths(fed.cases):
        if max(lengths) > c:
            for small in (1e-6, 0.0, 1e-12):
                cut = [g * min(1.0, c / (size + small)) for g, size in zip(fed.last, lengths)]
                yield Option(f"g cut to length {c:g}", ("update.clipped",), cut)
        if max(float(np.abs(g).max()) for g in fed.last) > c:
            values = [np.clip(g, -c, c) for g in fed.last]
            yield Option(f"g cut at {c:g} entry by entry", ("update.clipped",), values)


def put_back_too_early(fed: Fed) -> Iterator[Option]:
    """Weights that were put back between the second run of the network and its backward pass."""
    if any(len(a.seen.points) < 2 or a.seen.batches[-1][1] is not None for a in fed.cases):
        return
    gradients = [
        a.problem.gradient_through(a.seen.last, a.w, a.seen.batches[-1][0], a.seen.number)
        for a in fed.cases
    ]
    label = "the gradient through w, of the activations at w + eps"
    yield Option(label, ("restore.before-backward",), gradients)


def clip_lengths(cases: list[Case]) -> list[float]:
    """Lengths that the gradient may be cut to: those held by such a name, and usual ones."""
    hints = cases[0].seen.base.hints
    own = [
        float(value)
        for name, value in hints.items()
        if any(part in name.lower() for part in CLIPS) and isinstance(value, int | float)
    ]
    return list(dict.fromkeys([*(c for c in own if c > 0), *LENGTHS]))


def judge_scaled(cases: list[Case], tolerance: float = EXACT) -> Verdict | None:
    """Whether its base was given the gradient of the loss that a gradient scaler had scaled."""
    fed = Fed(cases)
    scales = [a.seen.scale for a in cases]
    if fed.base is None or None in scales:
        return None
    scaled = [scale * g for scale, g in zip(scales, fed.last)]
    known = {(): ("g", fed.last), ("update.scaled-gradient",): (f"{scales[0]:g} g", scaled)}
    verdict = choose(
        [
            Hypothesis(codes, at_once(cases, partial(ends, fed, fed.w, g)), f"{label}, w")
            for codes, (label, g) in known.items()
        ],
        cases,
        lambda a: a.seen.after,
        lambda a: float(np.linalg.norm(a.seen.after - a.w)),
        tolerance,
    )
    return verdict if verdict.best is not None and verdict.best.codes else None


def explanations(fed: Fed) -> Iterator[Hypothesis]:
    """All combinations of gradient and start, and more than one step of the base."""
    assert fed.base is not None

    def hypothesis(label: str, codes: tuple[str, ...], compute: Any) -> Hypothesis:
        return Hypothesis(tuple(dict.fromkeys(codes)), at_once(fed.cases, compute), label)

    name = fed.base.name
    for g in all_gradients(fed):
        for w in starts(fed):
            label = f"{g.label}, {w.label}, {name} replayed"
            yield hypothesis(label, (*w.codes, *g.codes), partial(ends, fed, w.value, g.value))
    if all(len(a.seen.points) < 2 for a in fed.cases):
        return
    both = list(zip(fed.first, fed.last))
    two = partial(ends, fed, fed.w, both)
    yield hypothesis(f"two base steps, {name} replayed", ("update.two-steps",), two)
    for label, places in (("w", fed.w), ("w + D", fed.first_point), ("w + eps", fed.last_point)):
        if label == "w" or any((p != w).any() for p, w in zip(places, fed.w)):
            told = f"g0 at {label} and g into the state"
            yield hypothesis(told, ("update.momentum-twice",), partial(_twice, fed, places))


def _twice(fed: Fed, places: list[Vector]) -> list[Vector]:
    """Its state takes in both gradients, the first at ``places``; the second's move is kept."""
    assert fed.base is not None
    shadow = fed.base.shadow()
    found = []
    for a, place, w, g0, g in zip(fed.cases, places, fed.w, fed.first, fed.last):
        shadow.step(place, g0, a.seen.base.settings)
        found.append(shadow.step(w, g, a.seen.base.settings))
    return found


def judge_replay(
    cases: list[Case], tolerance: float = EXACT, *, most: int | None = None
) -> Verdict | None:
    """Which explanation fits where the weights went; None where no base is known.

    The first is the base as it should be used; ``most`` is how many are tried.
    """
    fed = Fed(cases)
    if fed.base is None:
        return None
    try:
        return choose(
            itertools.islice(explanations(fed), most),
            cases,
            lambda a: a.seen.after,
            lambda a: float(np.linalg.norm(a.seen.after - a.w)),
            tolerance,
        )
    except Exception:  # a base that wants more than gradients cannot be replayed
        return None
