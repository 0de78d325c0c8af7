"""What eps may point along: the algorithm's own direction, and what is taken in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case, Vector, norm


@dataclass(frozen=True)
class Direction:
    """What eps points along; ``measured`` is what divides it by its norm (itself)."""

    label: str
    codes: tuple[str, ...]
    vector: Callable[[Case], Vector]
    measured: Callable[[Case], Vector] | None = None
    norms: str = "all"
    """Which norms may divide it: all of them, only the Euclidean one, or none."""


STALE = (("ascent.stale-gradient",), ("ascent.momentum-direction",))
"""What the first step cannot show: it has no step before it."""


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
    for label, reach in wrong_reaches():
        yield Direction(f"T^2 g0, {label}", wrong, stretched(reach, 2), stretched(reach, 1))
    inside = ("ascent.decay-inside",)
    for label, codes, reach in [
        *((label, (*reading, *inside), reach) for label, reading, reach in reaches()[:2]),
        ("T = w + eta", (*inside, *wrong), wrong_reaches()[0][1]),
    ]:
        twice, once = stretched(reach, 2, of=with_decay), stretched(reach, 1, of=with_decay)
        yield Direction(f"T^2 (g0 + weight_decay w), {label}", codes, twice, once)
    yield Direction("g0", ("algorithm.sam",), first)


def left_out_directions(cases: list[Case], own: Direction) -> Iterator[Direction]:
    """The own direction without the tensors that stay where they are in all steps."""
    problem = cases[0].problem
    out = [
        not any(a.eps[at].any() for a in cases) and any(a.first[at].any() for a in cases)
        for at in problem.slices
    ]
    if not any(out) or all(out):
        return
    names = [name for name, gone in zip(problem.names, out) if gone]
    here = problem.per_tensor(np.array(out, float)) > 0
    scales = {
        name.rpartition(".")[0]
        for name, shape in zip(problem.names, problem.shapes)
        if len(shape) == 1 and name.rpartition(".")[2] != "bias"
    }
    norm_layers = all(name.rpartition(".")[0] in scales for name in names)
    code = "ascent.norm-layers-left-out" if norm_layers else "ascent.tensor-left-out"
    if np.array_equal(here, problem.one_axis):
        code = "ascent.biases-left-out"
    whole = own.measured or own.vector

    def without(f: Callable[[Case], Vector]) -> Callable[[Case], Vector]:
        return lambda a: np.where(here, 0, f(a))

    for measured, said in ((without(whole), ""), (whole, ", the norm with them")):
        label = f"{own.label} without {', '.join(names)}{said}"
        which = "one" if said else "all"
        yield Direction(label, (code,), without(own.vector), measured, norms=which)


def with_decay(a: Case) -> Vector:
    return a.first + a.hyper.weight_decay * a.seen.points[0]


def first(a: Case) -> Vector:
    return a.first


def stretched(
    reach: Callable[[Case], Vector],
    power: int,
    sign: int = 1,
    of: Callable[[Case], Vector] = first,
) -> Callable[[Case], Vector]:
    """The gradient times a power of T."""
    return lambda a: sign * reach(a) ** power * of(a)


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


def wrong_reaches() -> list[tuple[str, Callable[[Case], Vector]]]:
    """What is taken for T and is no reading of it."""
    return [
        ("T = w + eta, without the absolute value", lambda a: a.w + a.hyper.eta),
        ("T^2 = w^2 + eta", lambda a: np.sqrt(a.w**2 + a.hyper.eta)),
        ("T = sqrt(|w|)", lambda a: np.sqrt(np.abs(a.w))),
        ("T of the first step's weights", lambda a: a.history[0].reach),
        ("T = ||w|| of each filter", lambda a: a.scale + a.hyper.eta),
        (
            "T = ||w|| of each filter, |w| for biases",
            lambda a: np.where(a.problem.one_axis, np.abs(a.w), a.scale) + a.hyper.eta,
        ),
        ("T = ||w|| of each tensor", lambda a: a.by_tensor(norm, a.w) + a.hyper.eta),
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
            "lam g0 of the scaled loss + D",
            "direction.scaled-gradient",
            lambda a: (a.hyper.lam * (a.seen.scale or np.nan), 1),
        ),
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
    apart = ("ascent.other-norm",)
    for label, reduce in (
        ("the root of ||lam g0||^2 + ||D||^2", np.hypot),
        ("||lam g0|| + ||D||", np.add),
    ):
        yield Direction(f"a, {label}", apart, own, norm_of_parts(reduce), norms="one")
    for drawn in (0, 1):
        yield Direction("lam (g0 + weight_decay w) + D", ("ascent.decay-inside",), decayed(drawn))
    yield Direction("sign(a)", ("ascent.sign",), lambda a: np.sign(own(a)), norms="none")
    yield Direction(
        "the last step's lam g0 + D",
        ("ascent.stale-gradient",),
        earlier(lambda b: b.hyper.lam * b.first, lambda a: a.draw),
        norms="one",
    )


def norm_of_parts(together: Callable[[float, float], float]) -> Callable[[Case], Vector]:
    """A vector (1,) whose norm is made of those of lam g0 and D, each taken alone."""
    return lambda a: np.array([together(a.hyper.lam * norm(a.first), norm(a.draw))])


def decayed(drawn: int) -> Callable[[Case], Vector]:
    """a with weight decay in its gradient, at w or at w + D."""

    def vector(a: Case) -> Vector:
        g = a.first + a.hyper.weight_decay * (a.w + drawn * a.draw)
        return a.hyper.lam * g + a.draw

    return vector


def centred(a: Case) -> Vector:
    """Gradient centralisation: each filter's mean is taken from its gradient."""
    v = a.first.copy()
    for at in a.problem.filters():
        if not a.problem.one_axis[at.start]:
            v[at] -= v[at].mean()
    return v


def masked(a: Case) -> Vector:
    """g0 where the observed perturbation is not 0; nothing where that says nothing: where only
    whole tensors stay.
    """
    zero = a.eps == 0
    within = any(zero[at].any() and not zero[at].all() for at in a.problem.slices)
    tells = 0.005 < zero.mean() < 0.995 and within
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
