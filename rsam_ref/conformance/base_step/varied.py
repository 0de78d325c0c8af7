"""What a base step that fits no rule does with its settings, told by running it with others.

SGD's move is linear: without weight decay, step t goes down lr times the sum of
momentum^(t - s) g_s. So the numbers that an implementation has there in place of these can be read
off, and so can its weight decay once they are known. Where it has others and they follow what is
set, a setting was used wrongly. What follows nothing is its own; what is not linear is another kind
of base step, such as Adam's, and nothing is told of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rsam_ref.conformance.ascent.case import Case
from rsam_ref.conformance.hypotheses import CLOSE
from rsam_ref.conformance.observe.problem import Hyper
from rsam_ref.conformance.report.report import Finding

STEPS = 4
"""Of a run; its settings stay as they are."""

LESS = 0.5
"""What a setting is multiplied by to see whether it is followed."""

SMALL = 1e-2
"""So much of what weight decay adds, which is small itself, may be left unexplained."""

Run = Callable[[Hyper, bool], list[Case]]
"""Takes `STEPS` steps from the start with these settings; on another problem, if told so."""


def findings(run: Run, hyper: Hyper, passed: set[str], tolerance: float) -> list[Finding]:
    """What is wrong with the use of momentum, weight decay and lr; nothing where that is not known.

    ``passed`` are the settings that reach the implementation.
    """
    limit = max(CLOSE, tolerance)
    plain = _without_decay(hyper, passed)
    seen = _numbers(run(plain, False), plain, limit)
    if seen is None or _differ(seen, _numbers(run(plain, True), plain, limit), limit):
        return []
    found = []
    if _differ(seen, _of_sgd(plain), limit):
        found += _gradients(run, plain, seen, passed, limit)
    if "weight_decay" in passed and hyper.weight_decay:
        found += _decay(run, hyper, seen, limit)
    return found


def is_velocity(run: Run, hyper: Hyper, passed: set[str], tolerance: float) -> bool:
    """Whether momentum is used as SGD uses it, times the first move in the second, and what goes
    into the velocity has not the gradient's direction: it is not only cut to a length.
    """
    plain = _without_decay(hyper, passed)
    if _numbers(run(plain, False), plain, max(CLOSE, tolerance)) is not None:
        return False
    other = hyper.but(momentum=LESS * hyper.momentum)
    one, two = run(hyper, False)[:2], run(other, False)[:2]
    if any(not np.array_equal(a.seen.last, b.seen.last) for a, b in zip(one, two)):
        return False  # it draws otherwise, and cannot be compared
    first, difference = _move(one[0]), _move(one[1]) - _move(two[1])
    expected = (hyper.momentum - other.momentum) * first
    far = float(np.linalg.norm(difference - expected))
    return far <= max(CLOSE, tolerance) * float(np.linalg.norm(expected))


def _without_decay(hyper: Hyper, passed: set[str]) -> Hyper:
    return hyper.but(weight_decay=0.0) if "weight_decay" in passed else hyper


def _move(a: Case) -> np.ndarray:
    return a.w - a.seen.after


def _numbers(cases: list[Case], hyper: Hyper, limit: float) -> np.ndarray | None:
    """How much of each gradient is in each move; None where the moves are no sums of gradients."""
    if not hyper.lr or len(cases) < STEPS:
        return None
    seen = np.zeros((STEPS, STEPS))
    gradients: list[np.ndarray] = []
    longest = max(float(np.linalg.norm(_move(a))) for a in cases)
    for t, a in enumerate(cases):
        gradients.append(a.seen.gradient(-1))
        along = np.stack(gradients, axis=1)
        move = _move(a) / hyper.lr
        seen[t, : t + 1], *_ = np.linalg.lstsq(along, move, rcond=None)
        if np.linalg.norm(along @ seen[t, : t + 1] - move) > limit * longest / hyper.lr:
            return None
    return seen


def _of_sgd(hyper: Hyper) -> np.ndarray:
    """The same of SGD: momentum^(t - s)."""
    t = np.arange(STEPS)
    return np.tril(hyper.momentum ** np.maximum(t[:, None] - t, 0).astype(float))


def _differ(seen: np.ndarray, others: np.ndarray | None, limit: float) -> bool:
    """Whether numbers differ by more than those of one run on two problems do."""
    return others is None or bool(np.abs(seen - others).max() > 10 * limit)


def _gradients(
    run: Run, hyper: Hyper, seen: np.ndarray, passed: set[str], limit: float
) -> list[Finding]:
    """Of which setting the numbers before the gradients are not SGD's."""
    times = _multiple_of_sgd(seen, hyper, limit)
    if times is not None:
        half = hyper.but(lr=LESS * hyper.lr)
        if "lr" not in passed or _differ(seen, _numbers(run(half, False), half, limit), limit):
            return []
        told = {"lr is multiplied by": _row(times), "in steps": f"1 to {STEPS}"}
        return [Finding("update.ascends" if min(times) < 0 else "update.lr-changed", told)]
    less = hyper.but(momentum=LESS * hyper.momentum)
    if "momentum" not in passed or not hyper.momentum:
        return []
    other = _numbers(run(less, False), less, limit)
    if other is None or not _differ(seen, other, limit):
        return []  # it does not follow what is set: its own
    used = [_momentum_in(numbers, limit) for numbers in (seen, other)]
    if used[0] is not None and used[1] is not None:
        pairs = [(hyper.momentum, used[0]), (less.momentum, used[1])]
        return [Finding("update.momentum-changed", _as_set("momentum", pairs, limit))]
    wrong = int(np.argmax(np.abs(seen - _of_sgd(hyper)).max(axis=1) > 10 * limit))
    step, expected = seen[wrong, : wrong + 1], _of_sgd(hyper)[wrong, : wrong + 1]
    names = [f"the gradients of steps 1 to {wrong + 1} are multiplied by" if wrong else "g, times"]
    told = {"in step": str(wrong + 1), names[0]: _row(step), "SGD has": _row(expected)}
    return [Finding("update.momentum-changed", told)]


def _multiple_of_sgd(seen: np.ndarray, hyper: Hyper, limit: float) -> np.ndarray | None:
    """What each step of SGD is multiplied by, where all that differs is this."""
    times = np.diag(seen)
    return None if _differ(seen, times[:, None] * _of_sgd(hyper), limit) else times


def _momentum_in(seen: np.ndarray, limit: float) -> float | None:
    """The momentum of an SGD that has these numbers; None where none has."""
    mu = float(seen[1, 0])
    sgd = _of_sgd(Hyper(momentum=mu))
    return None if _differ(seen, sgd, limit) else mu


def _decay(run: Run, hyper: Hyper, seen: np.ndarray, limit: float) -> list[Finding]:
    """Whether weight decay is that which was set, put into the gradient as SGD does."""
    less = hyper.but(weight_decay=LESS * hyper.weight_decay)
    used = [_decays(run(h, False), h, seen, seen) for h in (hyper, less)]
    shares = [share for share, _ in used]
    fits = all(rest <= SMALL for _, rest in used)
    if fits and abs(shares[0] / hyper.weight_decay - 1) < 10 * limit:
        return []
    if abs(shares[0] - shares[1]) < 10 * limit * hyper.weight_decay:
        return []  # it does not follow what is set: its own
    if not fits:
        apart, rest = _decays(run(hyper, False), hyper, np.eye(STEPS), seen)
        adds = "no multiple of the weights"
        if rest <= SMALL:
            adds = f"{apart:.4g} times the weights, past the momentum"
        told = {"set": hyper.weight_decay, "what it adds": adds}
        return [Finding("update.decay-changed", told)]
    pairs = [(hyper.weight_decay, shares[0]), (less.weight_decay, shares[1])]
    seen_as = _as_set("weight decay", pairs, limit)
    if abs(shares[0] / (hyper.weight_decay * hyper.lr) - 1) < 10 * limit:
        slow = hyper.but(lr=LESS * hyper.lr)
        then, _ = _decays(run(slow, False), slow, seen, seen)
        if abs(then / shares[0] - LESS) < 10 * limit:
            seen_as["which is"] = "lr times weight decay"
    return [Finding("update.decay-changed", seen_as)]


def _decays(
    cases: list[Case], hyper: Hyper, like: np.ndarray, seen: np.ndarray
) -> tuple[float, float]:
    """The weight decay that the moves tell, and how much of what decays it leaves unexplained.

    What the gradients give, by the numbers ``seen``, is known: the rest is what decay gives. It is
    held against the weights with the numbers ``like``: those of the gradients, as in SGD.
    """
    moves = np.stack([_move(a) / hyper.lr for a in cases])
    rest = (moves - seen @ np.stack([a.seen.gradient(-1) for a in cases])).reshape(-1)
    of = (like @ np.stack([a.w for a in cases])).reshape(-1)
    share = float(rest @ of / (of @ of + 1e-300))
    left = float(np.linalg.norm(rest - share * of) / (np.linalg.norm(rest) + 1e-300))
    return share, left


def _as_set(name: str, pairs: list[tuple[float, float]], limit: float) -> dict[str, object]:
    """What is used for what is set, and which function of it that is."""
    (value, used), (other, then) = pairs
    told: dict[str, object] = {"set": value, "used": round(used, 6)}
    share, power = used / value, np.log(max(used, 1e-12)) / np.log(value) if value < 1 else 1.0
    if abs(then / other - share) < 10 * limit * abs(share):
        told["which is"] = f"{share:.4g} times {name}"
    elif abs(other**power - then) < 10 * limit:
        told["which is"] = f"{name}^{power:.3g}"
    else:
        told[f"where {other:g} is set"] = round(then, 6)
    return told


def _row(numbers: np.ndarray) -> str:
    return ", ".join(f"{n:.4g}" for n in np.round(numbers, 6) + 0.0)
