"""By what z is multiplied: a rule for the scale s of every weight, and an amount for every step.

Each pair of a rule and an amount gives the draws a likelihood. The pair that departs least from
sigma s is believed among those that no other is much likelier than; then it must *fit*: in every
step, tensor, row, column and kernel the draws must be as large as it says.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from rsam_ref.conformance.draw.draws import Draws, filter_norms
from rsam_ref.conformance.observe.problem import Problem

MARGIN = 28.0
"""How much likelier (in logarithms) another pair must make the draws before it is believed. For
two pairs without a free number that happens by chance once in e^28 checks at most."""

IMPOSSIBLE = 1e-12
"""A sum of squares that is less probable than this does not fit."""


@dataclass(frozen=True)
class Rule:
    """A scale for every weight of a tensor; no code for the right one."""

    label: str
    code: str
    scale: Callable[[np.ndarray], Any]
    """From the tensor, in its shape."""


@dataclass(frozen=True)
class Amount:
    """A number for every step; ``value`` None where it is told from the draws."""

    label: str
    code: str
    value: np.ndarray | None
    free: int = 0
    """How many numbers are told from the draws."""


@dataclass
class Scale:
    """What was found for one kind of weights."""

    of: str
    here: np.ndarray
    """The weights of this kind: (P,) of bool."""
    rule: Rule
    amount: Amount
    s: np.ndarray
    """The rule's scale: (steps, weights here)."""
    a: np.ndarray
    """The amount: (steps,)."""
    evidence: dict[str, Any]
    misfit: dict[str, Any] | None = None
    """Where the draws are of another size than that, if it does not fit."""

    def z(self, draws: Draws) -> np.ndarray:
        """The draws over their standard deviation: (steps, weights here)."""
        return draws.d[:, self.here] / np.maximum(self.s * self.a[:, None], 1e-300)


def _norm(axes: tuple[int, ...] | None, power: float = 1.0) -> Callable[[np.ndarray], Any]:
    def scale(p: np.ndarray) -> Any:
        along = axes if axes is None else tuple(a % p.ndim for a in axes if a < p.ndim)
        return np.sqrt((p * p).sum(axis=along, keepdims=True)) ** power

    return scale


def _over(reduce: Callable[..., Any], axes: tuple[int, ...] | None) -> Callable[..., Any]:
    def scale(p: np.ndarray) -> Any:
        along = axes if axes is None else tuple(a for a in axes if a < p.ndim)
        return reduce(p, axis=along, keepdims=True)

    return scale


def _rms(p: np.ndarray, **along: Any) -> Any:
    return np.sqrt((p * p).mean(**along))


def _fan_in(p: np.ndarray) -> float:
    return (p.size / p.shape[0]) ** -0.5


def rules(axes: int, whole: float) -> list[Rule]:
    """What s could be for weights with so many axes; ``whole`` is the norm of all weights."""
    filters: tuple[int, ...] | None = tuple(range(1, axes)) or None
    bias = axes == 1
    what = "vector" if bias else "filter"
    other, power = "noise.other-norm", "noise.norm-power"
    unscaled = "noise.bias-unscaled" if bias else "noise.unscaled"
    rms = "noise.bias-rms-scale" if bias else "noise.rms-scale"

    def absolute(reduce: Callable[..., Any], over: tuple[int, ...] | None) -> Callable[..., Any]:
        return lambda p: _over(reduce, over)(np.abs(p))

    known = [
        Rule(f"the norm of the {what}", "", _norm(filters)),
        Rule("|w| of each weight", f"noise.{'bias-' if bias else ''}elementwise", np.abs),
        Rule("nothing", unscaled, np.ones_like),
        Rule("the norm of all weights", "noise.bias-unscaled" if bias else "noise.global-norm",
             lambda p: whole),
        Rule(f"the root mean square of the {what}", rms, _over(_rms, filters)),
        Rule(f"the root of the {what}'s norm", power, _norm(filters, 0.5)),
        Rule(f"the square of the {what}'s norm", power, _norm(filters, 2.0)),
        Rule(f"the largest |w| of the {what}", other, absolute(np.max, filters)),
        Rule(f"the mean |w| of the {what}", other, absolute(np.mean, filters)),
        Rule(f"the sum of |w| of the {what}", other, absolute(np.sum, filters)),
        Rule(f"the standard deviation of the {what}", other, _over(np.std, filters)),
    ]  # fmt: skip
    if bias:
        return known
    tensor = "the whole tensor"
    known += [
        Rule(f"the norm of {tensor}", "noise.whole-tensor", _norm(None)),
        Rule("1 / sqrt(fan_in)", unscaled, _fan_in),
        Rule(f"the root mean square of {tensor}", rms, _over(_rms, None)),
        Rule(f"the largest |w| of {tensor}", other, absolute(np.max, None)),
        Rule(f"the mean |w| of {tensor}", other, absolute(np.mean, None)),
        Rule(f"the standard deviation of {tensor}", other, _over(np.std, None)),
        Rule("norms over axis 0", "noise.wrong-axis", _norm((0,))),
    ]
    if axes > 2:
        every = range(axes)
        wrong = [a for count in every for a in itertools.combinations(every, count)]
        wrong = [a for a in wrong if a not in ((), (0,), filters)]
        known += [Rule(f"norms over axes {a}", "noise.wrong-axis", _norm(a)) for a in wrong]
    return known


def amounts(draws: Draws) -> list[Amount]:
    """What may stand in sigma's place."""
    sigma = np.array([seen.hyper.sigma for seen in draws.steps])
    lr = np.array([seen.hyper.lr for seen in draws.steps])
    rho = np.array([seen.hyper.rho for seen in draws.steps])
    known = [
        Amount("sigma", "", sigma),
        Amount("sigma^2", "noise.sigma-squared", sigma**2),
        Amount("the root of sigma", "noise.sigma-root", sigma**0.5),
        Amount("sigma lr", "noise.sigma-times-lr", sigma * lr),
        Amount("sigma rho", "noise.wrong-size", sigma * rho),
        Amount("sigma / 2", "noise.wrong-size", sigma / 2),
        Amount("sigma times a constant", "noise.wrong-size", sigma, free=1),
    ]
    if np.ptp(sigma) > 1e-6 * sigma.max():
        known.append(Amount("a constant", "noise.sigma-ignored", np.ones_like(sigma), free=1))
    if len(sigma) > 1:
        each = "a number of its own in every step"
        known.append(Amount(each, "noise.wrong-size", None, free=len(sigma)))
    return known


def judge_scale(draws: Draws, of: str, tails: float, like: Scale | None = None) -> Scale:
    """The rule and the amount for one kind of weights.

    ``tails`` is by how much less each draw tells than one that is Gaussian and independent. Where
    several rules are about as likely, the one of another kind, ``like``, is believed.
    """
    here, problem = draws.kinds[of], draws.problem
    axes = next(len(shape) for shape, at in zip(problem.shapes, problem.slices) if here[at].any())
    by_step = [rules(axes, float(np.linalg.norm(seen.w))) for seen in draws.steps]
    d = draws.d[:, here]
    number = d.shape[1]
    found: list[tuple[float, int, Rule, Amount, np.ndarray, np.ndarray]] = []
    for of_steps in zip(*by_step):
        rule = of_steps[0]
        s = np.stack(
            [_spread(problem, r, seen.w, axes)[here] for r, seen in zip(of_steps, draws.steps)]
        )
        logs = np.log(s).sum(axis=1)
        squares = ((d / s) ** 2).sum(axis=1)
        for amount in amounts(draws):
            a = amount.value
            if a is None:
                a = np.sqrt(squares / number)
            elif amount.free:
                a = a * np.sqrt(np.mean(squares / (number * np.maximum(a, 1e-300) ** 2)))
            a = np.maximum(a, 1e-300)
            likelihood = -float((number * np.log(a) + logs + squares / (2 * a * a)).sum())
            departures = bool(rule.code) + bool(amount.code)
            found.append((likelihood - 5.0 * amount.free, departures, rule, amount, s, a))
    best = max(item[0] for item in found)
    near = [item for item in found if best - item[0] <= MARGIN * tails]
    other = like.rule.label if like else ""
    likelihood, _, rule, amount, s, a = min(
        near, key=lambda item: (item[1], item[2].label != other, -item[0])
    )
    evidence: dict[str, Any] = {}
    if rule.code:
        right = max(item[0] for item in found if not item[2].code)
        rest = max(item[0] for item in found if item[2].code != rule.code)
        evidence["the scale is"] = rule.label
        evidence["log-likelihood above that of the filter's norm"] = likelihood - right
        evidence["above the runner-up"] = likelihood - rest
    scale = Scale(of, here, rule, amount, s, a, evidence)
    scale.misfit = _misfit(draws, scale, tails)
    return scale


def _spread(problem: Problem, rule: Rule, w: np.ndarray, axes: int) -> np.ndarray:
    """The rule's scale for tensors with so many axes, (P,); 1 elsewhere."""
    spread = np.ones(w.size)
    for p, at in zip(problem.parts(w), problem.slices):
        if p.ndim == axes:
            spread[at] = np.broadcast_to(rule.scale(p), p.shape).reshape(-1)
    return spread + 1e-300


def size_of_noise(draws: Draws, scale: Scale) -> dict[str, Any]:
    """How large the noise is in terms of sigma, under the rule: in all steps, or in each."""
    sigma = np.array([seen.hyper.sigma for seen in draws.steps])
    each = np.sqrt((scale.z(draws) ** 2).mean(axis=1)) * scale.a / np.maximum(sigma, 1e-300)
    evidence: dict[str, Any] = {
        "size of the noise / sigma": float(np.sqrt(np.mean(each**2))),
        "in the place of sigma is": scale.amount.label,
    }
    if scale.amount.free:
        evidence["in each step"] = [round(float(e), 3) for e in each]
    return evidence


def _misfit(draws: Draws, scale: Scale, tails: float) -> dict[str, Any] | None:
    """Where the draws are most off the size that rule and amount give them, beyond chance."""
    here = scale.here
    u = np.zeros_like(draws.d)
    u[:, here] = scale.z(draws) ** 2
    worst: tuple[float, str, float] | None = None
    for name, total, count in _cells(draws, scale, u):
        if count == 0:
            continue
        probability = _probability(total / tails, count / tails)
        if probability < IMPOSSIBLE and (worst is None or probability < worst[0]):
            worst = probability, name, float(np.sqrt(total / count))
    if worst is None:
        return None
    filters = [at for at in draws.problem.filters() if here[at].any()]
    sizes = [
        (
            np.log(np.linalg.norm(draws.steps[0].w[at])),
            np.log(np.sqrt((draws.d[:, at] ** 2).mean())),
        )
        for at in filters
    ]
    evidence = {
        "nearest": f"{scale.amount.label} times {scale.rule.label}",
        "off by": f"a factor of {worst[2]:.3g} in {worst[1]}",
    }
    if len(sizes) > 5:
        x, y = np.array(sizes).T
        slope = float(np.polyfit(x, y, 1)[0])
        evidence["it follows the filter's norm to the power of"] = f"{slope:.2f}"
    return evidence


def _probability(total: float, count: float) -> float:
    """Of a sum of ``count`` squares that is as far from its mean as this, to this side."""
    half = max(count, 1e-9) / 2, total / 2
    return float(min(special.gammainc(*half), special.gammaincc(*half)))


def _cells(draws: Draws, scale: Scale, u: np.ndarray) -> list[tuple[str, float, int]]:
    """Parts of the draws: name, sum of their squares, and how many there are."""
    here, problem, steps = scale.here, draws.problem, len(draws.steps)
    over = u.sum(axis=0)
    cells = [("all together", float(over[here].sum()), steps * int(here.sum()))]
    cells += [
        (f"step {seen.number + 1}", float(row[here].sum()), int(here.sum()))
        for seen, row in zip(draws.steps, u)
    ]
    size = np.abs(draws.steps[0].w) / filter_norms(problem, draws.steps[0].w)
    edges = np.quantile(size[here], np.linspace(0, 1, 9)[1:-1])
    level = np.digitize(size, edges)
    for i in range(len(edges) + 1):
        part = here & (level == i)
        cells.append((f"{_eighth(i)} |w|", float(over[part].sum()), steps * int(part.sum())))
    for name, at, shape in zip(problem.names, problem.slices, problem.shapes):
        if not here[at].any():
            continue
        part = over[at].reshape(shape)
        cells.append((name, float(part.sum()), steps * part.size))
        if len(shape) < 2:
            continue
        for axis, what in ((0, "filter"), (1, "input")):
            sums = part.sum(axis=tuple(a for a in range(part.ndim) if a != axis))
            each = steps * part.size // part.shape[axis]
            cells += [(f"{name}, {what} {i}", float(v), each) for i, v in enumerate(sums)]
        if len(shape) == 4:
            for o, i in np.ndindex(shape[0], shape[1]):
                kernel = part[o, i]
                cells.append((f"{name}, kernel {o}, {i}", float(kernel.sum()), steps * kernel.size))
    return cells


def _eighth(i: int) -> str:
    return f"the weights of the {i + 1}. eighth by"
