"""SGD's base step by formula: which gradient moved the weights, from where, by which rule.

The velocity is not seen. Each explanation carries its own from step to step, fed with the observed
gradients and weights, so that a mistake elsewhere does not add up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.base_step.fed import Fed, Option, gradients, starts
from rsam_ref.conformance.hypotheses import (
    CLOSE,
    EXACT,
    Hypothesis,
    Verdict,
    at_once,
    choose,
    in_turn,
)

Vector = np.ndarray

PER_TENSOR = 40
"""So many weights of each tensor are looked at: all that is done here is done weight by weight."""


class Moves:
    """What the base steps had to work with, weight by weight: for each quantity its (n,) a step."""

    def __init__(self, cases: list[Case], every: bool = False) -> None:
        self.fed = Fed(cases)
        problem = cases[0].problem
        rng = np.random.default_rng(0)
        picked = [
            rng.permutation(np.arange(at.start, at.stop))[:PER_TENSOR] for at in problem.slices
        ]
        self.index = np.arange(cases[0].w.size) if every else np.sort(np.concatenate(picked))
        self.hypers = [a.hyper for a in cases]
        self.rates = [h.lr for h in self.hypers]
        self.w = self.picked(self.fed.w)
        self.after = self.picked(self.fed.after)
        self.first_point = self.picked(self.fed.first_point)
        self.last_point = self.picked(self.fed.last_point)
        self.first = self.picked(self.fed.first)
        self.last = self.picked(self.fed.last)
        self.lengths = [float(np.linalg.norm(v)) for v in self.fed.last]
        self.first_lengths = [float(np.linalg.norm(v)) for v in self.fed.first]
        self.sizes = [float(np.linalg.norm(end - w)) for end, w in zip(self.after, self.w)]

    def picked(self, vectors: list[Vector]) -> list[Vector]:
        return [v[self.index] for v in vectors]

    def options(self, full: Iterable[Option]) -> list[Option]:
        """Options of full vectors, or of pairs of them, at the weights that are looked at."""
        return [
            Option(
                o.label,
                o.codes,
                tuple(map(self.picked, o.value))
                if isinstance(o.value, tuple)
                else self.picked(o.value),
            )
            for o in full
        ]

    def error(self, ends: list[Vector]) -> float:
        """How far predicted weights are from the observed ones, relative to the moves."""
        return max(
            float(np.linalg.norm(end - after)) / (size + 1e-300)
            for end, after, size in zip(ends, self.after, self.sizes)
        )


def decays(m: Moves) -> Iterator[Option]:
    """Where weight decay acts: None for the place the base step starts from."""
    yield Option("", (), "base")
    yield Option("no weight decay", ("update.decay-missing",), "none")
    yield Option("weight decay twice", ("update.decay-twice",), "twice")
    yield Option("decoupled weight decay", ("update.decay-decoupled",), "decoupled")
    yield Option("weight decay at w + eps", ("update.decay-at-perturbed",), m.last_point)
    if m.fed.drawn:
        yield Option("weight decay at w + D", ("update.decay-at-perturbed",), m.first_point)
    yield Option("weight decay at w", ("update.decay-at-perturbed",), m.w)


MOMENTA = [
    Option("", (), "plain"),
    Option("no momentum", ("update.momentum-missing",), "none"),
    Option("(1 - momentum) g", ("update.momentum-dampened",), "dampened"),
    Option("(1 - momentum) g, but g at first", ("update.momentum-dampened",), "torch dampened"),
    Option("Nesterov", ("update.nesterov",), "nesterov"),
    Option("lr in the velocity", ("update.lr-in-velocity",), "lr inside"),
    Option("g0 and g into the velocity", ("update.momentum-twice",), "twice"),
    Option("two base steps", ("update.two-steps",), "two steps"),
    Option("two base steps, the first at w + D", ("update.two-steps",), "two steps there"),
    Option("up the velocity", ("update.ascends",), "up"),
]


def momenta(m: Moves) -> list[Option]:
    """How the momentum may be used; Nesterov's is its own affair where it was chosen."""
    if not m.fed.cases[0].problem.nesterov_chosen:
        return MOMENTA
    chosen = Option("Nesterov", ("update.own-base",), "nesterov")
    return [chosen if option.value == chosen.value else option for option in MOMENTA]


def simulate(
    m: Moves,
    gradient: Any,
    base: list[Vector],
    decay: Any,
    momentum: str,
    rates: list[float],
) -> Iterator[Vector]:
    """Where the weights are after every step, one after the other; ``rates``: lr in each.

    ``gradient`` may be a pair: what goes into the velocity, and what is stepped by besides.
    """
    besides: list[Vector] | None = None
    if isinstance(gradient, tuple):
        gradient, besides = gradient
    velocity = np.zeros_like(m.w[0])
    fresh = True
    for t, hyper in enumerate(m.hypers):
        lr, mu, wd = rates[t], hyper.momentum, hyper.weight_decay
        w = base[t]
        g = gradient[t]

        def decayed(g: Vector, w: Vector, t: int = t, wd: float = wd) -> Vector:
            if isinstance(decay, list):
                return g + wd * decay[t]
            factor = {"base": 1.0, "none": 0.0, "twice": 2.0, "decoupled": 0.0}[decay]
            return g + factor * wd * w

        if decay == "decoupled":
            w = w - lr * wd * w
        if momentum in ("twice", "two steps", "two steps there"):
            at = m.first_point[t] if momentum == "two steps there" else m.w[t]
            velocity = mu * velocity + decayed(m.first[t], at)
            if momentum != "twice":
                w = w - lr * velocity
        g = decayed(g, w)
        if momentum == "none":
            step = lr * g
        elif momentum == "lr inside":
            velocity = mu * velocity + lr * g
            step = velocity
        else:
            dampened = momentum == "dampened" or (momentum == "torch dampened" and not fresh)
            velocity = mu * velocity + (1 - mu if dampened else 1) * g
            step = lr * (g + mu * velocity if momentum == "nesterov" else velocity)
        fresh = False
        if besides is not None:
            step = step + lr * besides[t]
        yield w + step if momentum == "up" else w - step


def set_rates(m: Moves) -> list[Option]:
    """The learning rates that were set; and the first of them, where it was changed."""
    rates = [Option("", (), m.rates)]
    if len(set(m.rates)) > 1:
        always = [m.rates[0]] * len(m.rates)
        rates.append(Option("the first lr", ("update.lr-ignored",), always))
    return rates


def other_rates(m: Moves) -> list[Option]:
    """Learning rates that nobody set, as the first step tells: a move along g + weight_decay w."""
    found = []
    asked = m.rates
    for share in (1.0, 0.0):
        along = m.last[0] + share * m.hypers[0].weight_decay * m.w[0]
        move = m.w[0] - m.after[0]
        lr = float(along @ move) / max(float(along @ along), 1e-300)
        if lr <= 0 or np.linalg.norm(move - lr * along) > CLOSE * np.linalg.norm(move):
            continue
        always = ("update.lr-ignored",)
        found.append(Option(f"lr {lr:.4g} in every step", always, [lr] * len(asked)))
        times = lr / max(asked[0], 1e-300)
        scaled = [times * rate for rate in asked]
        found.append(Option(f"{times:.4g} lr", ("update.lr-changed",), scaled))
        for label, power in (("lr^2", 2.0), ("the root of lr", 0.5)):
            if abs(asked[0] ** power - lr) < CLOSE * lr:
                changed = [rate**power for rate in asked]
                found.append(Option(label, ("update.lr-changed",), changed))
    return found


def explanations(m: Moves, more: list[Option] | None, rates: list[Option]) -> Iterator[Hypothesis]:
    """All combinations of the ``rates``; with ``more``, of these gradients only."""
    bases = m.options(starts(m.fed))
    for g in more if more is not None else m.options(gradients(m.fed)):
        for base in bases:
            for decay in decays(m):
                if isinstance(decay.value, list) and _same(decay.value, base.value):
                    continue
                for momentum in momenta(m):
                    for rate in rates:
                        parts = (g, base, decay, momentum, rate)
                        codes = (*base.codes, *g.codes, *rate.codes, *decay.codes, *momentum.codes)
                        values = [p.value for p in parts]
                        predict = in_turn(m.fed.cases, partial(simulate, m, *values))
                        label = ", ".join([p.label for p in parts if p.label])
                        yield Hypothesis(tuple(dict.fromkeys(codes)), predict, label)


def _same(a: list[Vector], b: list[Vector]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b))


def judge_base_step(
    cases: list[Case],
    tolerance: float = EXACT,
    *,
    more: Callable[[Moves], list[Option]] | None = None,
    rates: Callable[[Moves], list[Option]] = set_rates,
    most: int | None = None,
) -> Verdict:
    """Which explanation fits where the weights went in all steps.

    The first is the base step as it was asked for; ``most`` is how many are tried.
    """
    m = Moves(cases)
    observed = at_once(cases, lambda: m.after)
    sizes = {id(a): size for a, size in zip(cases, m.sizes)}
    return choose(
        itertools.islice(explanations(m, None if more is None else more(m), rates(m)), most),
        cases,
        observed,
        lambda a: sizes[id(a)],
        tolerance,
    )


def mixtures(m: Moves) -> list[Option]:
    """Gradients that are combinations of g0 and g, with the weights of each told by the first step.

    Its velocity is the gradient itself, so G = (base - w') / lr - weight_decay w is seen there; for
    every place to start from and every reading of decay there is one pair of weights.
    """
    found: dict[tuple[float, float], Option] = {}
    hyper = m.hypers[0]
    for base in m.options(starts(m.fed)):
        for decay in decays(m):
            factor = {"base": 1.0, "none": 0.0, "twice": 2.0, "decoupled": 1.0}
            decayed = (
                decay.value[0]
                if isinstance(decay.value, list)
                else factor[decay.value] * base.value[0]
            )
            total = (base.value[0] - m.after[0]) / max(hyper.lr, 1e-300)
            for share in (1.0, 1 + hyper.momentum):  # Nesterov's first step is larger
                wanted = total / share - hyper.weight_decay * decayed
                both = np.stack([m.first[0], m.last[0]], axis=1)
                if np.array_equal(m.first[0], m.last[0]):
                    both = both[:, 1:]
                weights, *_ = np.linalg.lstsq(both, wanted, rcond=None)
                rest = np.linalg.norm(both @ weights - wanted)
                if rest > 3e-4 * np.linalg.norm(wanted):
                    continue
                a, b = (0.0, float(weights[0])) if len(weights) == 1 else map(float, weights)
                key = round(a, 6), round(b, 6)
                if key not in found:
                    for option in _readings(m, a, b):
                        found[(*key, option.label)] = option  # type: ignore[index]
    return list(found.values())


def by_the_first(m: Moves, length: float) -> Iterator[Option]:
    """g times what brings, or cuts, the first gradient to a length."""
    code = ("update.scaled-by-first",)
    shares = [length / size for size in m.first_lengths]
    brought = [share * g for share, g in zip(shares, m.last)]
    yield Option(f"g times {length:.4g} / ||g0||", code, brought)
    cut = [min(1.0, share) * g for share, g in zip(shares, m.last)]
    yield Option(f"g times min(1, {length:.4g} / ||g0||)", code, cut)


def _readings(m: Moves, a: float, b: float) -> Iterator[Option]:
    """What weights a of g0 and b of g in the first step may mean in the others."""
    linear = [a * x + b * y for x, y in zip(m.first, m.last)]
    if abs(a) < 1e-4:
        yield Option(f"{b:.4g} g", ("update.scaled-gradient",), linear)
        length = b * m.lengths[0]
        fixed = [length * y / size for y, size in zip(m.last, m.lengths)]
        yield Option(f"g brought to length {length:.4g}", ("update.normalised-gradient",), fixed)
        clipped = [y * min(1.0, length / size) for y, size in zip(m.last, m.lengths)]
        yield Option(f"g cut to length {length:.4g}", ("update.clipped",), clipped)
        yield from by_the_first(m, b * m.first_lengths[0])
        return
    if abs(a + b - 1) < 1e-3 and b > 0:
        gamma = b / (1 + b)
        label = f"{a:.4g} g0 + {b:.4g} g (gamma {gamma:.4g})"
        yield Option(label, ("algorithm.wsam",), linear)
        apart = [b * (y - x) for x, y in zip(m.first, m.last)]
        yield Option(f"{label}, g - g0 past the momentum", ("algorithm.wsam",), (m.first, apart))
    else:
        yield Option(f"{a:.4g} g0 + {b:.4g} g", ("update.gradients-mixed",), linear)
    if a < 0:
        parted = [
            (g + a * (g0 - (g0 @ g) / (g @ g) * g))[m.index]
            for g0, g in zip(m.fed.first, m.fed.last)
        ]
        yield Option(f"g less {-a:.4g} of g0 across g", ("algorithm.gsam",), parted)
