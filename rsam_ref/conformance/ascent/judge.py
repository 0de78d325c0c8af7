"""Judging the ascent: which eps leads from w to where the second gradient is taken.

Every explanation is a direction, a norm that divides it, a radius, and a place to start from; each
of the four may depart from the algorithm on its own, so that several mistakes are told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from rsam_ref.conformance.hypotheses import EXACT, Hypothesis, Verdict, choose
from rsam_ref.conformance.observe.observer import Seen
from rsam_ref.conformance.observe.problem import Problem

TINY = 1e-12

NO_DRAW = 3e-7
"""A first point that is so close to w, relative to its length, is w in float32."""
Vector = np.ndarray


class Case:
    """One step's ascent: from w with the draw D (0 where there is none) to the last point."""

    def __init__(
        self, problem: Problem, seen: Seen, before: Case | None, groups: Vector | None = None
    ) -> None:
        self.problem = problem
        self.seen = seen
        self.before = before
        self.w = seen.w
        self.hyper = seen.hyper
        self.draw = seen.points[0] - seen.w
        if np.linalg.norm(self.draw) < NO_DRAW * np.linalg.norm(seen.w):
            self.draw = np.zeros_like(self.draw)
        self.first = seen.gradient(0)
        self.eps = seen.last - seen.w
        self.groups = groups
        """Each weight's group's number (P,), where there are groups."""

    @cached_property
    def rho(self) -> Any:
        """The radius: a number, or with groups one for each weight."""
        return self.hyper.rho if self.groups is None else group_rhos(self.hyper)[self.groups]

    @cached_property
    def reach(self) -> Vector:
        """T = |w| + eta, ASAM's measure."""
        return np.abs(self.w) + self.hyper.eta

    @cached_property
    def scale(self) -> Vector:
        """s: the norm of each weight's filter."""
        s = np.empty_like(self.w)
        for at in self.problem.filters():
            s[at] = np.linalg.norm(self.w[at])
        return s

    def by_tensor(self, measure: Callable[[Vector], float], v: Vector) -> Vector:
        return self.problem.per_tensor([measure(v[at]) for at in self.problem.slices])


def group_rhos(hyper: Any) -> Vector:
    """The two groups' radii in the probe of parameter groups."""
    return np.array([hyper.rho, 0.4 * hyper.rho])


@dataclass(frozen=True)
class Direction:
    """What eps points along; ``measured`` is what divides it by its norm (itself)."""

    label: str
    codes: tuple[str, ...]
    vector: Callable[[Case], Vector]
    measured: Callable[[Case], Vector] | None = None
    norms: str = "all"
    """Which norms may divide it: all of them, only the Euclidean one, or none."""


def sam_directions() -> Iterator[Direction]:
    """The algorithm's own, g0, and what is done in its place."""
    yield Direction("g0", (), lambda a: a.first)
    yield Direction("-g0", ("ascent.descends",), lambda a: -a.first)
    yield from _other_directions()


def _other_directions() -> Iterator[Direction]:
    yield Direction("g0 + weight_decay w", ("ascent.decay-inside",), with_decay)
    yield Direction("sign(g0)", ("ascent.sign",), lambda a: np.sign(a.first), norms="none")
    yield Direction("centred g0", ("ascent.centred-gradient",), centred)
    yield Direction(
        "centred g0, norm of g0", ("ascent.centred-gradient",), centred, lambda a: a.first
    )
    yield Direction(
        "g0 without biases",
        ("ascent.biases-left-out",),
        lambda a: np.where(a.problem.one_axis, 0, a.first),
        norms="one",
    )
    yield Direction(
        "g0 without biases, norm of g0",
        ("ascent.biases-left-out",),
        lambda a: np.where(a.problem.one_axis, 0, a.first),
        lambda a: a.first,
        norms="one",
    )
    for measured in (None, lambda a: a.first):
        yield Direction("part of g0", ("ascent.masked",), masked, measured, norms="one")
    yield Direction(
        "the last step's g0", ("ascent.stale-gradient",), earlier(lambda b: b.first), norms="one"
    )
    yield Direction(
        "the last step's gradient",
        ("ascent.stale-gradient",),
        earlier(lambda b: b.seen.gradient(-1)),
        norms="one",
    )
    yield Direction(
        "g0 + the last step's gradient",
        ("ascent.stale-gradient",),
        earlier(lambda b: b.seen.gradient(-1), lambda a: a.first),
        norms="one",
    )
    yield Direction(
        "the velocity", ("ascent.momentum-direction",), earlier(velocity_before), norms="one"
    )
    yield Direction(
        "the velocity with g0",
        ("ascent.momentum-direction",),
        earlier(lambda b: b.hyper.momentum * velocity_before(b), lambda a: a.first),
        norms="one",
    )


def asam_directions() -> Iterator[Direction]:
    """T^2 g0 / ||T g0||, with what is taken for T, and SAM's."""
    wrong = ("ascent.wrong-scaling",)
    for label, reading, reach in reaches():
        once, twice = stretched(reach, 1), stretched(reach, 2)
        yield Direction(f"T^2 g0, {label}", reading, twice, once)
        yield Direction(f"-T^2 g0, {label}", ("ascent.descends",), stretched(reach, 2, -1), once)
        yield Direction(f"T g0, {label}", wrong, once)
        yield Direction(f"T^2 g0, norm of it, {label}", wrong, twice, norms="one")
        yield Direction(f"T^2 g0, norm of g0, {label}", wrong, twice, first, norms="one")
    yield Direction("g0", ("algorithm.sam",), first)


def with_decay(a: Case) -> Vector:
    return a.first + a.hyper.weight_decay * a.seen.points[0]


def first(a: Case) -> Vector:
    return a.first


def stretched(
    reach: Callable[[Case], Vector], power: int, sign: int = 1
) -> Callable[[Case], Vector]:
    """The gradient times a power of T."""
    return lambda a: sign * reach(a) ** power * a.first


def reaches() -> list[tuple[str, tuple[str, ...], Callable[[Case], Vector]]]:
    """Readings of T: with eta, without, and with 1 for biases; and the code of each."""
    other = ("ascent.asam-reading",)

    def weights_only(eta: Callable[[Case], float]) -> Callable[[Case], Vector]:
        return lambda a: np.where(a.problem.one_axis, 1.0, np.abs(a.w) + eta(a))

    return [
        ("T = |w| + eta", (), lambda a: a.reach),
        ("T = |w|", other, lambda a: np.abs(a.w)),
        ("T = |w| + eta, 1 for biases", other, weights_only(lambda a: a.hyper.eta)),
        ("T = |w|, 1 for biases", other, weights_only(lambda a: 0.0)),
    ]


def named_directions() -> Iterator[Direction]:
    """Other algorithms' ascents, where SAM is asked for."""
    for label, _, reach in reaches():
        yield Direction(
            f"ASAM's T^2 g0, {label}",
            ("algorithm.asam",),
            stretched(reach, 2),
            stretched(reach, 1),
            norms="one",
        )
    for share in (0.6, 0.9, 0.95, 0.99):
        for early in (False, True):
            for zero in (False, True):
                yield Direction(
                    f"g0 less its running mean ({share})",
                    ("algorithm.friendly-sam",),
                    less_mean(share, early, zero),
                    norms="one",
                )


def less_mean(share: float, early: bool, from_zero: bool) -> Callable[[Case], Vector]:
    return lambda a: a.first - running_mean(a, share, early, from_zero)


def running_mean(a: Case, share: float, early: bool, from_zero: bool) -> Vector:
    """Friendly SAM's mean of first gradients, before (``early``) or after this step's came in."""
    history: list[Case] = []
    at: Case | None = a
    while at is not None:
        history.insert(0, at)
        at = at.before
    mean = np.zeros_like(a.first)
    for i, step in enumerate(history):
        if early and step is a:
            return mean
        mean = step.first if i == 0 and not from_zero else share * mean + (1 - share) * step.first
    return mean


def rsam_directions() -> Iterator[Direction]:
    """The algorithm's own, a = lam g0 + D, and what is done in its place."""

    def weighed(f: Callable[[Case], tuple[Any, Any]]) -> Callable[[Case], Vector]:
        def vector(a: Case) -> Vector:
            gradient, draw = f(a)
            return gradient * a.first + draw * a.draw

        return vector

    own = weighed(lambda a: (a.hyper.lam, 1))
    yield Direction("lam g0 + D", (), own)
    wrong: list[tuple[str, str, Callable[[Case], tuple[Any, Any]]]] = [
        ("-(lam g0 + D)", "ascent.descends", lambda a: (-a.hyper.lam, -1)),
        ("g0 + D", "direction.lam-ignored", lambda a: (1, 1)),
        ("2 g0 + D", "direction.lam-ignored", lambda a: (2, 1)),
        ("g0 + lam D, or g0 / lam + D", "direction.lam-on-noise", lambda a: (1, a.hyper.lam)),
        ("lam g0 - D", "direction.noise-subtracted", lambda a: (a.hyper.lam, -1)),
        ("D - lam g0", "direction.gradient-subtracted", lambda a: (-a.hyper.lam, 1)),
        ("D", "direction.noise-only", lambda a: (0, 1)),
        (
            "lam g0 / ||g0|| + D",
            "direction.normalised-first",
            lambda a: (a.hyper.lam / norm(a.first), 1),
        ),
        (
            "g0 / ||g0|| + D",
            "direction.normalised-first",
            lambda a: (1 / norm(a.first), 1),
        ),
        (
            "lam g0 + D / ||D||",
            "direction.normalised-first",
            lambda a: (a.hyper.lam, 1 / norm(a.draw)),
        ),
        (
            "lam g0 / ||g0|| + D / ||D||",
            "direction.normalised-first",
            lambda a: (a.hyper.lam / norm(a.first), 1 / norm(a.draw)),
        ),
        (
            "lam g0 + z",
            "direction.unscaled-noise",
            lambda a: (a.hyper.lam, 1 / (a.hyper.sigma * a.scale)),
        ),
        (
            "lam g0 + s z",
            "direction.unscaled-noise",
            lambda a: (a.hyper.lam, 1 / a.hyper.sigma),
        ),
        (
            "lam g0 + sigma z",
            "direction.unscaled-noise",
            lambda a: (a.hyper.lam, 1 / a.scale),
        ),
        (
            "lam g0 + (1 - lam) D",
            "direction.wrong-weights",
            lambda a: (a.hyper.lam, 1 - a.hyper.lam),
        ),
        (
            "(1 - lam) g0 + lam D",
            "direction.wrong-weights",
            lambda a: (1 - a.hyper.lam, a.hyper.lam),
        ),
    ]
    for label, code, f in wrong:
        yield Direction(label, (code,), weighed(f))
    yield Direction("g0", ("algorithm.rsam-gradient",), lambda a: a.first)
    yield Direction("-g0", ("algorithm.rsam-gradient", "ascent.descends"), lambda a: -a.first)
    only = ("direction.noise-only-in-norm",)
    yield Direction("lam g0, norm of a", only, weighed(lambda a: (a.hyper.lam, 0)), own)
    yield Direction("g0, norm of a", only, lambda a: a.first, own)
    without = ("direction.noise-not-in-norm",)
    yield Direction("a, norm of g0", without, own, lambda a: a.first)
    yield Direction("a, norm of lam g0", without, own, lambda a: a.hyper.lam * a.first)
    for drawn in (0, 1):
        yield Direction("lam (g0 + weight_decay w) + D", ("ascent.decay-inside",), decayed(drawn))
    yield Direction(
        "a without biases",
        ("ascent.biases-left-out",),
        lambda a: np.where(a.problem.one_axis, 0, own(a)),
    )
    yield Direction("sign(a)", ("ascent.sign",), lambda a: np.sign(own(a)), norms="none")
    yield Direction(
        "the last step's lam g0 + D",
        ("ascent.stale-gradient",),
        earlier(lambda b: b.hyper.lam * b.first, lambda a: a.draw),
        norms="one",
    )


def decayed(drawn: int) -> Callable[[Case], Vector]:
    """a with weight decay in its gradient, at w or at w + D."""

    def vector(a: Case) -> Vector:
        g = a.first + a.hyper.weight_decay * (a.w + drawn * a.draw)
        return a.hyper.lam * g + a.draw

    return vector


def norm(v: Vector) -> float:
    return float(np.linalg.norm(v)) + 1e-300


def centred(a: Case) -> Vector:
    """Gradient centralisation: each filter's mean is taken from its gradient."""
    v = a.first.copy()
    for at in a.problem.filters():
        if not a.problem.one_axis[at.start]:
            v[at] -= v[at].mean()
    return v


def masked(a: Case) -> Vector:
    """g0 where the observed perturbation is not 0; nothing where that says nothing."""
    zero = a.eps == 0
    tells = 0.005 < zero.mean() < 0.995 and not np.array_equal(zero, a.problem.one_axis)
    return np.where(zero, 0, a.first) if tells else np.full_like(a.first, np.nan)


def velocity_before(a: Case) -> Vector:
    """The velocity after a step, from how the weights moved."""
    return (a.w - a.seen.after) / max(a.hyper.lr, 1e-300)


def earlier(
    then: Callable[[Case], Vector], now: Callable[[Case], Vector] | None = None
) -> Callable[[Case], Vector]:
    """A vector of the step before; in the first step, which has none, what was observed."""

    def vector(a: Case) -> Vector:
        if a.before is None:
            return a.eps
        return then(a.before) + (0 if now is None else now(a))

    return vector


Norm = tuple[str, tuple[str, ...], Callable[[Case, Vector], Any]]


def norms(grouped: bool) -> list[Norm]:
    """What divides the direction: label, codes, and the divisor of a measured vector."""

    def per_filter(a: Case, v: Vector) -> Vector:
        out = np.empty_like(v)
        for at in a.problem.filters():
            out[at] = norm(v[at])
        return out

    def per_group(a: Case, v: Vector) -> Vector:
        assert a.groups is not None
        return np.array([norm(v[a.groups == i]) for i in range(a.groups.max() + 1)])[a.groups]

    other = ("ascent.other-norm",)
    one = ("ascent.norm-of-one-tensor",)
    known: list[Norm] = [
        ("the norm", (), lambda a, v: norm(v) + TINY),
        ("nothing", ("ascent.not-normalised",), lambda a, v: 1.0),
        ("the squared norm", ("ascent.squared-norm",), lambda a, v: v @ v + TINY),
        ("the tensors' norms", ("ascent.norm-per-tensor",), lambda a, v: a.by_tensor(norm, v)),
        ("the filters' norms", ("ascent.norm-per-filter",), per_filter),
        (
            "the sum of norms",
            ("ascent.sum-of-norms",),
            lambda a, v: sum(norm(v[at]) for at in a.problem.slices),
        ),
        ("the last tensor's norm", one, lambda a, v: norm(v[a.problem.slices[-1]])),
        ("the first tensor's norm", one, lambda a, v: norm(v[a.problem.slices[0]])),
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
    if grouped:
        known.append(("the groups' norms", ("ascent.norm-per-group",), per_group))
    return known


Radius = tuple[str, tuple[str, ...], Callable[[Case], Any]]


def radii(grouped: bool) -> list[Radius]:
    known: list[Radius] = [
        ("rho", (), lambda a: a.rho),
        ("rho lr", ("ascent.radius-times-lr",), lambda a: a.rho * a.hyper.lr),
        ("rho^2", ("ascent.radius-power",), lambda a: a.rho**2),
        ("rho^0.5", ("ascent.radius-power",), lambda a: a.rho**0.5),
        ("rho ||w||", ("ascent.relative-radius",), lambda a: a.rho * norm(a.w)),
    ]
    if grouped:
        known.append(
            ("the first group's rho", ("ascent.one-rho-for-all-groups",), lambda a: a.hyper.rho)
        )
    return known


def explanations(algorithm: str, noisy: bool, grouped: bool) -> Iterator[Hypothesis]:
    """All combinations of direction, norm, radius and start."""
    if noisy:
        directions = list(rsam_directions())
    elif algorithm == "asam":
        directions = list(asam_directions())
    else:
        directions = [*sam_directions(), *named_directions()]
    starts: list[tuple[str, tuple[str, ...], Callable[[Case], Any]]] = [("", (), lambda a: 0.0)]
    if noisy:
        starts.append((", from w + D", ("direction.measured-from-noise",), lambda a: a.draw))
    choices = {"all": norms(grouped), "one": norms(grouped)[:1], "none": norms(grouped)[1:2]}
    for d in directions:
        for norm_label, norm_codes, divisor in choices[d.norms]:
            own = () if d.norms == "none" else norm_codes
            for radius_label, radius_codes, radius in radii(grouped):
                for start_label, start_codes, start in starts:
                    codes = (*start_codes, *d.codes, *own, *radius_codes)
                    if start_codes and d.codes == ("algorithm.rsam-gradient",):
                        codes = ("algorithm.rsam-stacked", *own, *radius_codes)

                    def predict(
                        a: Case,
                        d: Direction = d,
                        divisor: Any = divisor,
                        radius: Any = radius,
                        start: Any = start,
                    ) -> Vector:
                        if a.before is None and d.codes[:1] in STALE:
                            return a.eps
                        v = d.vector(a)
                        measured = v if d.measured is None else d.measured(a)
                        return start(a) + radius(a) * v / divisor(a, measured)

                    label = f"{radius_label} ({d.label}) / {norm_label}{start_label}"
                    yield Hypothesis(tuple(dict.fromkeys(codes)), predict, label)


STALE = (("ascent.stale-gradient",), ("ascent.momentum-direction",))


def judge_ascent(
    cases: list[Case], algorithm: str, noisy: bool, tolerance: float = EXACT
) -> Verdict:
    """Which explanation fits the observed eps of all steps."""
    grouped = cases[0].groups is not None
    return choose(
        list(explanations(algorithm, noisy, grouped)),
        cases,
        lambda a: a.eps,
        lambda a: float(np.linalg.norm(a.eps)),
        tolerance,
    )


def judge_direction(cases: list[Case], algorithm: str, noisy: bool, tolerance: float) -> Verdict:
    """Which direction fits, whatever the length."""
    starts = [()] if not noisy else [(), ("direction.measured-from-noise",)]

    def along(a: Case, d: Direction, start: tuple[str, ...]) -> Vector:
        v = d.vector(a)
        eps = a.eps - a.draw if start else a.eps
        if a.before is None and d.codes[:1] in STALE:
            return a.eps
        back = a.draw if start else 0.0
        return back + np.linalg.norm(eps) * v / (np.linalg.norm(v) + 1e-300)

    directions = list(rsam_directions()) if noisy else list(sam_directions())
    if algorithm == "asam" and not noisy:
        directions = list(asam_directions())
    return choose(
        [
            Hypothesis((*start, *d.codes), partial(along, d=d, start=start), d.label)
            for d in directions
            for start in starts
        ],
        cases,
        lambda a: a.eps,
        lambda a: float(np.linalg.norm(a.eps)),
        tolerance,
    )


def judge_length(cases: list[Case], start: bool) -> tuple[str, dict[str, Any]]:
    """What is wrong with a length, where the direction is right."""
    lengths = np.array([norm(a.eps - a.draw if start else a.eps) for a in cases])
    rhos = np.array([a.hyper.rho for a in cases])
    sizes = np.array([norm(a.first) for a in cases])
    evidence = {"||eps|| / rho": [round(float(r), 6) for r in lengths / rhos]}

    def steady(v: Vector) -> bool:
        return float(np.ptp(v)) < 1e-4 * float(np.abs(v).max())

    if steady(lengths) and not steady(rhos):
        return "ascent.radius-ignored", {"||eps||": float(lengths[0]), **evidence}
    if steady(lengths / rhos):
        return "ascent.wrong-radius", evidence
    constants = sizes * (rhos / lengths - 1)
    if steady(constants) and constants[0] > 0:
        return "ascent.epsilon-too-large", {"the constant": float(constants[0]), **evidence}
    return "ascent.wrong-radius", evidence
