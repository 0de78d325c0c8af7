"""Wrong implementations of kinds that a check once called by another name, or by none.

Like plants.py, whose right step they change; its PLANTS takes them in.
"""

from __future__ import annotations

import numpy as np

from .plants import (
    Arrays,
    Plant,
    asam,
    drawn,
    filter_norm,
    gaussian,
    norm,
    rsam,
    sam,
    shaped,
    stretch,
    to_radius,
    unit,
)

MISREAD: list[Plant] = []


def plant(name, algorithm, subject, code, also=(), instead=()):
    MISREAD.append(Plant(name, "function", algorithm, subject, code, tuple(also), tuple(instead)))


# The base step: what was asked for and has no effect is not a step size of its own ----------------


def plain(s, w, g):
    return w - s.h.lr * g


def fixed_rate(s, w, g):
    return w - 0.01 * g


def fixed_rate_with_decay(s, w, g):
    return w - 0.01 * (g + s.h.weight_decay * w)


def at_another_rate(rate):
    """SGD in full, with a learning rate made of the one that was set."""

    def move(s, w, g):
        s.state["v"] = s.h.momentum * s.state["v"] + g if "v" in s.state else g
        s.state["v"] = s.state["v"] + s.h.weight_decay * w
        return w - rate(s.h.lr) * s.state["v"]

    return move


def from_the_first_weights(s):
    """Every step begins where the first one began: training stands still."""
    return s.state.setdefault("first", s.w.map(np.copy))


def own_momentum_and_no_decay(s, w, g):
    s.state["v"] = 0.7 * s.state["v"] + g if "v" in s.state else g
    return w - s.h.lr * s.state["v"]


# ... the ascent -----------------------------------------------------------------------------------


def by_kind(s):
    """The matrices by their norm, the biases by theirs: two groups of an own loop."""
    sizes = {True: 0.0, False: 0.0}
    for part in s.a:
        sizes[part.ndim > 1] += float((part * part).sum())
    return s.a.map(lambda part: s.h.rho / (sizes[part.ndim > 1] ** 0.5 + 1e-12) * part)


def balanced(by_filter=True):
    """Numbers less their mean, in every filter or in every tensor."""

    def z(s):
        numbers = gaussian(s)
        along = [tuple(range(1, v.ndim)) if by_filter and v.ndim > 1 else None for v in numbers]
        return Arrays(v - v.mean(axis=axes, keepdims=True) for v, axes in zip(numbers, along))

    return z


def rolled_pool(s):
    """One pool of numbers for all steps, some places further in each."""
    count = sum(w.size for w in s.w)
    pool = np.roll(np.random.default_rng(3).standard_normal(count), 29 * s.state["t"])
    parts = np.split(pool, np.cumsum([w.size for w in s.w])[:-1])
    return Arrays(s.h.sigma * filter_norm(w) * part.reshape(w.shape) for w, part in zip(s.w, parts))


def by_norm_of(vector):
    return lambda s: s.h.rho / (norm(vector(s)) + 1e-12) * s.a


def last_steps_norm(s):
    now = norm(s.a) + 1e-12
    before, s.state["norm"] = s.state.get("norm", now), now
    return s.h.rho / before * s.a


def asam_by_kind(s):
    t = stretch(s)
    sizes = {True: 0.0, False: 0.0}
    for part in t * s.a:
        sizes[part.ndim > 1] += float((part * part).sum())
    return (t * t * s.a).map(lambda part: s.h.rho / (sizes[part.ndim > 1] ** 0.5 + 1e-12) * part)


def some_tensors(with_all):
    """A coin decides for every tensor; the norm is that of those that move, or of all."""

    def length(s):
        tails = [s.rng.random() < 0.4 for _ in s.a[1:]]
        kept = Arrays(0 * part if out else part for part, out in zip(s.a, [False, *tails]))
        return s.h.rho / (norm(s.a if with_all else kept) + 1e-12) * kept

    return length


def recomputed_as_asam(at):
    """eps anew from the second gradient, T being that of the weights ``at``."""

    def start(s):
        t = at(s).map(np.abs) + s.h.eta
        return s.q2 - s.h.rho / (norm(t * s.g) + 1e-12) * (t * t * s.g)

    return start


def over(divisor):
    """rho a / divisor(s, the norm of a)."""
    return lambda s: s.h.rho / divisor(s, norm(s.a) + 1e-12) * s.a


def parts(s):
    """The norms of lam g0 and of D."""
    return s.h.lam * norm(s.g0), norm(s.D)


def less_half_the_draw(s):
    return to_radius(s) - 0.5 * s.D


def long_gradient_cut(s):
    """Clipping that is asked for, at a length that is seldom reached."""
    return s.h.lam * min(1.0, 50.0 / (norm(s.g0) + 1e-12)) * s.g0 + s.D


# ... the draw -------------------------------------------------------------------------------------


def of_exact_length(times_root=False, only=lambda shape: True):
    """z / ||z|| of each filter, or that times the root of its size; Gaussian where not ``only``."""

    def z(rng, shape):
        z = rng.standard_normal(shape)
        if not only(shape):
            return z
        axes = tuple(range(1, len(shape))) or None
        size = z.size // shape[0] if len(shape) > 1 else z.size
        length = np.sqrt((z * z).sum(axis=axes, keepdims=True))
        return z / length * (size**0.5 if times_root else 1.0)

    return drawn(z=shaped(z))


def over_all_but_the_last_axis(w):
    """For weights with the outputs last."""
    axes = tuple(range(w.ndim - 1)) or None
    return np.sqrt((w * w).sum(axis=axes, keepdims=True))


# State outside of the state -----------------------------------------------------------------------


def _moved(weights, loss_and_grad, hyper, velocity):
    """SAM; the new weights and the velocity."""
    w = Arrays(weights)
    g0 = Arrays(np.array(g) for g in loss_and_grad(list(w))[1])
    g = Arrays(loss_and_grad(list(w + hyper.rho * unit(g0)))[1]) + hyper.weight_decay * w
    velocity = g if velocity is None else hyper.momentum * velocity + g
    return list(w - hyper.lr * velocity), velocity


def velocity_on_the_function(weights, loss_and_grad, state, hyper):
    before = getattr(velocity_on_the_function, "v", None)
    moved, velocity_on_the_function.v = _moved(weights, loss_and_grad, hyper, before)
    return moved, state


KEPT: dict[str, Arrays] = {}


def velocity_in_the_file(weights, loss_and_grad, state, hyper):
    moved, KEPT["v"] = _moved(weights, loss_and_grad, hyper, KEPT.get("v"))
    return moved, state


def velocity_closed_over():
    velocity = None

    def train_step(weights, loss_and_grad, state, hyper):
        nonlocal velocity
        moved, velocity = _moved(weights, loss_and_grad, hyper, velocity)
        return moved, state

    return train_step


class VelocityOfTheObject:
    velocity = None

    def __call__(self, weights, loss_and_grad, state, hyper):
        moved, self.velocity = _moved(weights, loss_and_grad, hyper, self.velocity)
        return moved, state


def velocity_in_a_default(weights, loss_and_grad, state, hyper, kept=[]):  # noqa: B006
    before = kept.pop() if kept else None
    moved, velocity = _moved(weights, loss_and_grad, hyper, before)
    kept.append(velocity)
    return moved, state


BOUNDED = "ascent.bounded-radius"
LOST = "resume.momentum-lost"
BOTH = "update.momentum-missing", "update.decay-missing"

for name, algorithm, subject, code, *more in [
    ("sam-plain-step", "sam", sam(move=plain), BOTH[0], (), BOTH[1:]),
    ("sam-fixed-rate", "sam", sam(move=fixed_rate), "update.lr-ignored", BOTH),
    ("sam-fixed-rate-and-decay", "sam", sam(move=fixed_rate_with_decay), "update.lr-ignored", BOTH),
    ("sam-rate-of-one", "sam", sam(move=at_another_rate(lambda lr: 1.0)), "update.lr-ignored"),
    ("sam-rate-of-a-tenth", "sam", sam(move=at_another_rate(lambda lr: 0.1)), "update.lr-ignored"),
    ("sam-half-rate", "sam", sam(move=at_another_rate(lambda lr: lr / 2)), "update.lr-changed"),
    ("sam-rate-squared", "sam", sam(move=at_another_rate(lambda lr: lr**2)), "update.lr-changed"),
    ("rsam-root-of-rate", "rsam", rsam(move=at_another_rate(np.sqrt)), "update.lr-changed"),
    ("sam-first-weights", "sam", sam(start=from_the_first_weights), "restore.older-weights"),
    ("sam-own-momentum", "sam", sam(move=own_momentum_and_no_decay), "update.decay-missing"),
    ("sam-norm-by-kind", "sam", sam(length=by_kind), "ascent.norm-per-group"),
    ("asam-norm-by-kind", "asam", asam(length=asam_by_kind), "ascent.norm-per-group"),
    ("rsam-norm-by-kind", "rsam", rsam(length=by_kind), "ascent.norm-per-group"),
    ("sam-some-tensors", "sam", sam(length=some_tensors(False)), "ascent.masked"),
    ("sam-some-tensors-norm-of-all", "sam", sam(length=some_tensors(True)), "ascent.masked"),
    ("rsam-some-tensors", "rsam", rsam(length=some_tensors(False)), "ascent.masked"),
    ("asam-recomputed", "asam", asam(start=recomputed_as_asam(lambda s: s.q2)),
     "restore.recomputed"),
    ("asam-recomputed-old-t", "asam", asam(start=recomputed_as_asam(lambda s: s.w)),
     "restore.recomputed"),
    ("sam-norm-cap", "sam", sam(length=over(lambda s, n: min(n, 5.0))), BOUNDED),
    ("asam-norm-cap", "asam", asam(length=lambda s: (
        s.h.rho / min(norm(stretch(s) * s.a) + 1e-12, 50.0) * (stretch(s) * stretch(s) * s.a)
    )), BOUNDED),
    ("rsam-norm-cap", "rsam", rsam(length=over(lambda s, n: min(n, 50.0))), BOUNDED),
    ("rsam-norm-floor-of-one", "rsam", rsam(length=over(lambda s, n: max(n, 1.0))), BOUNDED),
    ("rsam-norm-floor-of-a-tenth", "rsam", rsam(length=over(lambda s, n: max(n, 0.1))), BOUNDED),
    ("rsam-short-where-the-norm-is", "rsam", rsam(length=over(lambda s, n: n / min(1.0, n))),
     BOUNDED),
    ("rsam-norms-apart", "rsam", rsam(length=over(lambda s, n: np.hypot(*parts(s)) + 1e-12)),
     "ascent.other-norm"),
    ("rsam-sum-of-both-norms", "rsam", rsam(length=over(lambda s, n: sum(parts(s)) + 1e-12)),
     "ascent.other-norm"),
    ("rsam-norm-before-lam", "rsam", rsam(length=by_norm_of(lambda s: s.g0 + s.D)),
     "ascent.other-norm"),
    ("rsam-norm-lam-on-the-draw", "rsam", rsam(length=by_norm_of(lambda s: s.g0 + s.h.lam * s.D)),
     "ascent.other-norm"),
    ("rsam-norm-of-unscaled-draw", "rsam", rsam(length=by_norm_of(lambda s: (
        s.h.lam * s.g0 + Arrays(d / filter_norm(w) for d, w in zip(s.D, s.w))
    ))), "ascent.other-norm"),
    ("rsam-norm-of-the-last-step", "rsam", rsam(length=last_steps_norm), "ascent.other-norm"),
    ("sam-norm-of-the-last-step", "sam", sam(length=last_steps_norm), "ascent.other-norm"),
    ("rsam-mean-of-filters-taken-off", "rsam", rsam(noise=drawn(z=balanced())),
     "noise.not-gaussian"),
    ("rsam-mean-of-tensors-taken-off", "rsam", rsam(noise=drawn(z=balanced(by_filter=False))),
     "noise.not-gaussian"),
    ("rsam-rolled-pool", "rsam", rsam(noise=rolled_pool), "noise.same-draw"),
    ("rsam-less-half-the-draw", "rsam", rsam(length=less_half_the_draw), "direction.wrong-weights"),
    ("rsam-norms-over-all-but-the-last", "rsam", rsam(noise=drawn(over_all_but_the_last_axis)),
     "noise.wrong-axis"),
    ("rsam-exact-filters", "rsam", rsam(noise=of_exact_length()), "noise.fixed-length"),
    ("rsam-exact-by-size", "rsam", rsam(noise=of_exact_length(True)), "noise.fixed-length"),
    ("rsam-exact-but-biases", "rsam",
     rsam(noise=of_exact_length(only=lambda shape: len(shape) > 1)), "noise.fixed-length"),
    ("rsam-exact-convolutions", "rsam",
     rsam(noise=of_exact_length(True, lambda shape: len(shape) > 2)), "noise.fixed-length"),
    ("velocity-on-the-function", "sam", velocity_on_the_function, LOST),
    ("velocity-in-the-file", "sam", velocity_in_the_file, LOST),
    ("velocity-closed-over", "sam", velocity_closed_over(), LOST),
    ("velocity-of-the-object", "sam", VelocityOfTheObject(), LOST),
    ("velocity-in-a-default", "sam", velocity_in_a_default, LOST),
]:  # fmt: skip
    plant(name, algorithm, subject, code, *more)


# Right --------------------------------------------------------------------------------------------

CALLS: list[int] = []


def counts_its_calls(weights, loss_and_grad, state, hyper):
    """Keeps a log outside, from which nothing follows."""
    CALLS.append(len(CALLS))
    counts_its_calls.last = len(CALLS)
    moved, velocity = _moved(weights, loss_and_grad, hyper, state.get("v"))
    return moved, {"v": velocity}


def looks_ahead(weights, loss_and_grad, state, hyper, nesterov=True):
    """Nesterov's momentum, which it is asked for."""
    before = state.get("v", Arrays(0 * w for w in weights))
    _, velocity = _moved(weights, loss_and_grad, hyper, before)
    g = velocity - hyper.momentum * before
    ahead = g + hyper.momentum * velocity if nesterov else velocity
    return list(Arrays(weights) - hyper.lr * ahead), {"v": velocity}


NOTED_MISREAD = [("sam-own-nesterov", "function", "sam", looks_ahead, ("update.own-base",))]

RIGHT_MISREAD = [
    ("sam-counts-its-calls", "function", "sam", counts_its_calls),
    ("sam-long-gradient-cut", "function", "sam",
     sam(direction=lambda s: min(1.0, 5.0 / (norm(s.g0) + 1e-12)) * s.g0)),
    ("rsam-long-gradient-cut", "function", "rsam", rsam(direction=long_gradient_cut)),
]  # fmt: skip
"""Rows of right.py."""
