"""Wrong implementations, each with the code that a check must find first.

`step` is a right step in NumPy with a hook for each stage; a plant replaces one (two, for the
compound ones) by what people write instead. Those in PyTorch are in plants_torch.py. At the end
stands what could not be planted.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np


class Plant(NamedTuple):
    name: str
    form: str
    algorithm: str
    subject: Any
    code: str
    """The finding that comes first."""
    also: tuple[str, ...] = ()
    """What may be found besides, being true as well."""
    instead: tuple[str, ...] = ()
    """What may come first with equal right, where the catalogue has two names for one thing."""

    @property
    def allowed(self) -> set[str]:
        """Every code that is true of this plant."""
        codes = {self.code, *self.also, *self.instead}
        stages = {code.split(".")[0] for code in codes}
        if "update" in stages:  # it is not the base optimizer, so not with rho = 0 either
            codes.add("limits.rho-zero")
        if self.algorithm == "rsam" and stages & {"update", "ascent", "restore", "direction"}:
            codes.add("limits.sigma-zero")  # nor SAM with sigma = 0
        if codes & {"restore.not-undone", "restore.undone-twice", "noise.not-removed"}:
            codes.add("update.decay-at-perturbed")  # the base step acts where it was left
        if codes & {"noise.not-removed", "direction.measured-from-noise"}:
            codes.add("limits.rho-zero")
        return codes


class Arrays(list):
    """The weights of a net, or anything of their shapes, to reckon with as with one vector."""

    __array_ufunc__ = None

    def _each(self, other, op):
        others = other if isinstance(other, list) else [other] * len(self)
        return Arrays(op(a, b) for a, b in zip(self, others))

    def __add__(self, other):
        return self._each(other, lambda a, b: a + b)

    def __sub__(self, other):
        return self._each(other, lambda a, b: a - b)

    def __mul__(self, other):
        return self._each(other, lambda a, b: a * b)

    def __truediv__(self, other):
        return self._each(other, lambda a, b: a / b)

    __radd__ = __add__
    __rmul__ = __mul__

    def map(self, f):
        return Arrays(f(a) for a in self)


def dot(a, b):
    return sum(np.vdot(x, y) for x, y in zip(a, b))


def norm(a):
    return np.sqrt(dot(a, a))


def unit(a):
    return a / (norm(a) + 1e-12)


# The stages, done right. s holds what is known: w, h(yper), state, rng, D, q1, g0, a, eps, q2, g.


def filter_norm(w):
    axes = tuple(range(1, w.ndim)) or None
    return np.sqrt((w * w).sum(axis=axes, keepdims=True)) + (1e-16 if w.ndim == 1 else 0.0)


def gaussian(s):
    return s.w.map(lambda w: s.rng.standard_normal(w.shape).astype(w.dtype))


def drawn(scale=filter_norm, amount=lambda s: s.h.sigma, z=gaussian):
    """D = amount * scale(w) * z."""

    def draw(s):
        s.z = z(s)
        s.scale = s.w.map(scale)
        return amount(s) * (s.scale * s.z)

    return draw


def to_radius(s):
    return s.h.rho * unit(s.a)


def at_eps(s):
    return s.w + s.eps


def at_w(s):
    return s.w


def second_gradient(s):
    return s.g


def sgd(s, w, g):
    return moved(s, w, g + s.h.weight_decay * w)


def moved(s, w, g):
    s.state["v"] = s.h.momentum * s.state["v"] + g if "v" in s.state else g
    return w - s.h.lr * s.state["v"]


def step(
    *,
    noise=None,
    first=lambda s: s.w if s.D is None else s.w + s.D,
    direction=lambda s: s.g0,
    length=to_radius,
    second=at_eps,
    start=at_w,
    gradient=second_gradient,
    move=sgd,
):
    def train_step(weights, loss_and_grad, state, hyper):
        state = dict(state)
        state["t"] = state.get("t", 0) + 1
        state.setdefault("rng", np.random.default_rng(7))
        s = SimpleNamespace(h=hyper, state=state, rng=state["rng"], D=None)
        s.w = Arrays(w.copy() for w in weights)
        s.ask = lambda q: Arrays(g.copy() for g in loss_and_grad([x.copy() for x in q])[1])
        if noise is not None:
            s.D = noise(s)
        s.q1 = first(s)
        s.g0 = s.ask(s.q1)
        s.a = direction(s)
        s.eps = length(s)
        s.q2 = second(s)
        s.g = s.ask(s.q2)
        return list(move(s, start(s), gradient(s))), state

    return train_step


sam = step


def asam(**hooks):
    hooks.setdefault("length", asam_eps)
    return step(**hooks)


def asam_eps(s):
    t = stretch(s)
    return s.h.rho / (norm(t * s.a) + 1e-12) * (t * t * s.a)


def stretch(s):
    return s.w.map(np.abs) + s.h.eta


def rsam(**hooks):
    hooks.setdefault("noise", drawn())
    hooks.setdefault("direction", lam_g0_plus_noise)
    return step(**hooks)


def lam_g0_plus_noise(s):
    return s.h.lam * s.g0 + s.D


# What people write instead: the noise -------------------------------------------------------------


def tensor_norm(w):
    return np.linalg.norm(w.ravel())


def column_norm(w):
    """axis=0 instead of axis=1; for filters, the norm for each input channel."""
    if w.ndim == 1:
        return filter_norm(w)
    axes = (0, *range(2, w.ndim))
    return np.sqrt((w * w).sum(axis=axes, keepdims=True))


def kernel_norm(w):
    """One norm a kernel (O, I): view(O, I, -1).norm(dim=2)."""
    return np.sqrt((w * w).sum(axis=(2, 3), keepdims=True)) if w.ndim == 4 else filter_norm(w)


def axis_one_norm(w):
    """axis=1 alone: right for a matrix, not for a filter."""
    return np.sqrt((w * w).sum(axis=1, keepdims=True)) if w.ndim > 1 else filter_norm(w)


def filter_rms(w):
    return np.sqrt((w * w).mean(axis=tuple(range(1, w.ndim)) or None, keepdims=True))


def one(w):
    return 1.0


def biases(rule):
    """Another rule for what has one axis only."""
    return lambda w: rule(w) if w.ndim == 1 else filter_norm(w)


def global_norm_noise(s):
    return s.h.sigma * norm(s.w) * gaussian(s)


def without_last_matrix(s):
    noise = drawn()(s)
    last = max(i for i, w in enumerate(s.w) if w.ndim > 1)
    noise[last] = np.zeros_like(noise[last])
    return noise


def sigma_of_first_step(s):
    return s.state.setdefault("sigma", s.h.sigma)


def filter_normalised(s):
    """z / ||z_f||, as in pictures of loss landscapes."""
    return gaussian(s).map(lambda z: z / filter_norm(z))


def tensor_normalised(s):
    return gaussian(s).map(lambda z: z / tensor_norm(z))


def shaped(f):
    return lambda s: s.w.map(lambda w: f(s.rng, w.shape).astype(w.dtype))


def truncated(rng, shape):
    """As jax.random.truncated_normal at two standard deviations."""
    z = rng.standard_normal(shape)
    while np.any(np.abs(z) > 2):
        z = np.where(np.abs(z) > 2, rng.standard_normal(shape), z)
    return z


def one_per_filter(rng, shape):
    rows = shape[0] if len(shape) > 1 else 1
    return np.broadcast_to(rng.standard_normal((rows, *[1] * (len(shape) - 1))), shape)


def same_for_filters(rng, shape):
    """torch.randn_like(w[0]), added to the whole of w."""
    return np.broadcast_to(rng.standard_normal(shape[1:] if len(shape) > 1 else shape), shape)


def one_per_filter_seeded(s):
    rng = np.random.default_rng(0)
    return s.w.map(lambda w: one_per_filter(rng, w.shape).astype(w.dtype))


def seeded_inside(s):
    rng = np.random.default_rng(0)
    return s.w.map(lambda w: rng.standard_normal(w.shape).astype(w.dtype))


def lagging(s):
    z = gaussian(s)
    if "z" in s.state:
        z = 0.9 * s.state["z"] + (1 - 0.81) ** 0.5 * z
    s.state["z"] = z
    return z


def one_seed_for_all(s):
    """As one JAX key for every leaf: equal shapes, equal draws."""
    t = s.state["t"]

    def z(w):
        return np.random.default_rng([t, *w.shape]).standard_normal(w.shape).astype(w.dtype)

    return s.w.map(z)


def one_seed_whatever_shape(s):
    """default_rng(t) anew for each tensor: all tensors begin with the same numbers."""
    t = s.state["t"]
    return s.w.map(lambda w: np.random.default_rng(t).standard_normal(w.shape).astype(w.dtype))


def ball(s):
    z = gaussian(s)
    return s.h.sigma / norm(z) * z


def sigma_or_default(s):
    return s.h.sigma or 0.01


# ... the ascent -----------------------------------------------------------------------------------


def per_tensor(s):
    return s.h.rho * s.a.map(lambda a: a / (np.linalg.norm(a.ravel()) + 1e-12))


def per_filter(s):
    return s.h.rho * s.a.map(lambda a: a / (filter_norm(a) + 1e-12))


def divided_by(length):
    """rho a / (length(a) + 1e-12)."""
    return lambda s: s.h.rho / (length(s.a) + 1e-12) * s.a


def mostly_weights(a):
    return [x for x in a if x.ndim > 1]


def biases_left_out(s):
    return s.h.rho * unit(s.a.map(lambda a: a if a.ndim > 1 else np.zeros_like(a)))


def half_masked(s):
    """The larger half of each tensor's entries only."""
    return s.h.rho * unit(s.a.map(lambda a: a * (np.abs(a) >= np.median(np.abs(a)))))


def coin_masked(s):
    return s.h.rho * unit(s.a.map(lambda a: a * (s.rng.random(a.shape) < 0.5)))


def centred(s):
    return s.g0.map(
        lambda g: g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True) if g.ndim > 1 else g
    )


def g0_of_last_step(s):
    last = s.state.get("g0", s.g0)
    s.state["g0"] = s.g0
    return last


def along_momentum(s):
    return s.state.get("v", s.g0)


def radius(r):
    return lambda s: r(s) * unit(s.a)


def fisher(s):
    """Fisher SAM: the gradient over its squares."""
    scaled = s.a.map(lambda a: a / (1 + 50 * a * a))
    return s.h.rho / (np.sqrt(dot(s.a, scaled)) + 1e-12) * scaled


def every_other_step(s):
    return (s.h.rho if s.state["t"] % 2 else 0.0) * unit(s.a)


def several_steps(k, radius):
    def second(s):
        s.eps = radius(s) * unit(s.a)
        for _ in range(k - 1):
            s.eps = s.eps + radius(s) * unit(s.ask(s.w + s.eps))
        return s.w + s.eps

    return second


def friendly(s):
    """Friendly SAM, sigma = 1, lambda = 0.9."""
    s.state["m"] = 0.9 * s.state["m"] + 0.1 * s.g0 if "m" in s.state else 0.1 * s.g0
    return s.g0 - s.state["m"]


def friendly_before(s):
    """The same, as public code has it: less the mean before this gradient came in."""
    if "m" not in s.state:
        s.state["m"] = s.g0
        return s.g0
    before = s.state["m"]
    s.state["m"] = 0.9 * before + 0.1 * s.g0
    return s.g0 - before


# ... the way back ---------------------------------------------------------------------------------


def recomputed(s):
    return s.q2 - s.h.rho * unit(s.g)


# ... the base step --------------------------------------------------------------------------------


def mixed(a, b):
    return lambda s: a * s.g0 + b * s.g


def g_of_last_step(s):
    last = s.state.get("g", s.g)
    s.state["g"] = s.g
    return last


def gap_guided(s):
    """GSAM, alpha = 0.4: less the part of g0 that is orthogonal to g."""
    along = dot(s.g0, s.g) / (dot(s.g, s.g) + 1e-12) * s.g
    return s.g - 0.4 * (s.g0 - along)


def wsam(gamma):
    part = gamma / (1 - gamma)
    return mixed(1 - part, part)


def decay_missing(s, w, g):
    return moved(s, w, g)


def decay_at_perturbed(s, w, g):
    return moved(s, w, g + s.h.weight_decay * s.q2)


def decay_decoupled(s, w, g):
    return moved(s, w * (1 - s.h.lr * s.h.weight_decay), g)


def decay_twice(s, w, g):
    return sgd(s, w, g + s.h.weight_decay * w)


def momentum_missing(s, w, g):
    return w - s.h.lr * (g + s.h.weight_decay * w)


def dampened(s, w, g):
    g = g + s.h.weight_decay * w
    m = s.h.momentum
    s.state["v"] = m * s.state["v"] + (1 - m) * g if "v" in s.state else (1 - m) * g
    return w - s.h.lr * s.state["v"]


def nesterov(s, w, g):
    moved(s, w, g + s.h.weight_decay * w)
    return w - s.h.lr * (g + s.h.weight_decay * w + s.h.momentum * s.state["v"])


def momentum_twice(s, w, g):
    sgd(s, w, s.g0)
    return sgd(s, w, g)


def two_steps(s, w, g):
    return sgd(s, sgd(s, w, s.g0), g)


def lr_of_first_step(s, w, g):
    lr = s.state.setdefault("lr", s.h.lr)
    sgd(s, w, g)
    return w - lr * s.state["v"]


def adam(s, w, g):
    g = g + s.h.weight_decay * w
    t = s.state["t"]
    s.state["m"] = 0.9 * s.state.get("m", 0.0 * g) + 0.1 * g
    s.state["u"] = 0.999 * s.state.get("u", 0.0 * g) + 0.001 * (g * g)
    root = (s.state["u"] / (1 - 0.999**t)).map(np.sqrt)
    return w - s.h.lr * (s.state["m"] / (1 - 0.9**t) / (root + 1e-8))


def lion(s, w, g):
    sgd(s, w, g)
    return w - s.h.lr * s.state["v"].map(np.sign)


def no_step(s, w, g):
    """`for w, v in zip(weights, velocity): w = w - lr * v` changes no list."""
    sgd(s, w, g)
    return w


def ascends(s, w, g):
    sgd(s, w, g)
    return w + s.h.lr * s.state["v"]


# Written out --------------------------------------------------------------------------------------


def noise_after_ascent(weights, loss_and_grad, state, hyper):
    """The ascent is SAM's; the draw comes on top of it."""
    hooks = {"direction": lambda s: s.g0, "first": at_w, "second": lambda s: s.w + s.eps + s.D}
    return rsam(**hooks)(weights, loss_and_grad, state, hyper)


def one_gradient_a_step(noise=None, move=sgd):
    """The base optimizer, or random smoothing."""

    def train_step(weights, loss_and_grad, state, hyper):
        state = dict(state)
        rng = state.setdefault("rng", np.random.default_rng(7))
        s = SimpleNamespace(h=hyper, state=state, rng=rng, w=Arrays(w.copy() for w in weights))
        q = s.w if noise is None else s.w + noise(s)
        g = Arrays(x.copy() for x in loss_and_grad(list(q))[1])
        return list(move(s, s.w, g)), state

    return train_step


def last_gradient_instead_of_first(weights, loss_and_grad, state, hyper):
    """One pass is saved: the ascent goes along the gradient that moved the weights last."""
    state = dict(state)
    w = Arrays(x.copy() for x in weights)
    s = SimpleNamespace(h=hyper, state=state)
    last = state.get("g") or Arrays(loss_and_grad(list(w))[1])
    g = Arrays(x.copy() for x in loss_and_grad(list(w + hyper.rho * unit(last)))[1])
    state["g"] = g
    return list(sgd(s, w, g)), state


def skips_every_other(weights, loss_and_grad, state, hyper):
    """Every second step is the base optimizer's, with one gradient."""
    state = dict(state)
    state["n"] = state.get("n", 0) + 1
    inner = sam() if state["n"] % 2 else one_gradient_a_step()
    return inner(weights, loss_and_grad, state, hyper)


def looksam(every=3, alpha=0.7):
    """LookSAM: the part of g orthogonal to g0 is kept and used again."""

    def train_step(weights, loss_and_grad, state, hyper):
        state = dict(state)
        s = SimpleNamespace(h=hyper, state=state)
        w = Arrays(x.copy() for x in weights)
        g0 = Arrays(x.copy() for x in loss_and_grad(list(w))[1])
        n = state.get("n", 0)
        state["n"] = n + 1
        if n % every == 0:
            g = Arrays(x.copy() for x in loss_and_grad(list(w + hyper.rho * unit(g0)))[1])
            state["across"] = g - dot(g, g0) / (dot(g0, g0) + 1e-12) * g0
        else:
            across = state["across"]
            g = g0 + alpha * norm(g0) / (norm(across) + 1e-12) * across
        return list(sgd(s, w, g)), state

    return train_step


_VELOCITY: dict[str, Arrays] = {}


def velocity_of_the_module(weights, loss_and_grad, state, hyper):
    """The velocity is a global: what is saved and loaded lacks it."""
    if not state:
        _VELOCITY.clear()
    kept = {**state, **_VELOCITY}
    moved_weights, kept = sam()(weights, loss_and_grad, kept, hyper)
    _VELOCITY["v"] = kept.pop("v")
    return moved_weights, kept


def forgets_the_state(weights, loss_and_grad, state, hyper):
    """The state that came is not passed on: each step is the first."""
    return sam()(weights, loss_and_grad, {}, hyper)


def one_shared_array(weights, loss_and_grad, state, hyper):
    """old = weights is no copy: += moves both, and nothing is undone."""
    old = weights
    g0 = loss_and_grad(weights)[1]
    length = norm(g0)
    for w, g in zip(weights, g0):
        w += hyper.rho * g / (length + 1e-12)
    g = loss_and_grad(weights)[1]
    weights = old
    buffers = state.setdefault("buffers", [np.zeros_like(w) for w in weights])
    for w, b, x in zip(weights, buffers, g):
        b *= hyper.momentum
        b += x + hyper.weight_decay * w
        w -= hyper.lr * b
    return weights, state


PLANTS: list[Plant] = []


def plant(name, algorithm, subject, code, also=(), instead=()):
    PLANTS.append(Plant(name, "function", algorithm, subject, code, tuple(also), tuple(instead)))


NOT_UNDONE = {"start": lambda s: s.q2}

# SAM: the ascent
for name, hooks, code, *more in [
    ("descends", {"length": lambda s: -1.0 * to_radius(s)}, "ascent.descends"),
    ("not-normalised", {"length": lambda s: s.h.rho * s.a}, "ascent.not-normalised"),
    ("squared-norm", {"length": divided_by(lambda a: dot(a, a))}, "ascent.squared-norm"),
    ("norm-per-tensor", {"length": per_tensor}, "ascent.norm-per-tensor"),
    ("norm-per-filter", {"length": per_filter}, "ascent.norm-per-filter"),
    (
        "sum-of-norms",
        {"length": divided_by(lambda a: sum(tensor_norm(x) for x in a))},
        "ascent.sum-of-norms",
    ),
    (
        "norm-of-last",
        {"length": divided_by(lambda a: tensor_norm(a[-1]))},
        "ascent.norm-of-one-tensor",
    ),
    (
        "norm-of-first",
        {"length": divided_by(lambda a: tensor_norm(a[0]))},
        "ascent.norm-of-one-tensor",
    ),
    (
        "maximum-norm",
        {"length": divided_by(lambda a: max(np.abs(x).max() for x in a))},
        "ascent.other-norm",
    ),
    (
        "sum-norm",
        {"length": divided_by(lambda a: sum(np.abs(x).sum() for x in a))},
        "ascent.other-norm",
    ),
    (
        "rms-norm",
        {"length": divided_by(lambda a: norm(a) / sum(x.size for x in a) ** 0.5)},
        "ascent.other-norm",
        (),
        ("ascent.wrong-radius",),
    ),
    ("sign", {"length": lambda s: s.h.rho * s.a.map(np.sign)}, "ascent.sign"),
    (
        "norm-skips-biases",
        {"length": divided_by(lambda a: norm(mostly_weights(a)))},
        "ascent.norm-skips-biases",
    ),
    ("biases-left-out", {"length": biases_left_out}, "ascent.biases-left-out"),
    ("half-masked", {"length": half_masked}, "ascent.masked"),
    ("coin-masked", {"length": coin_masked}, "ascent.masked"),
    ("centred-direction", {"direction": centred}, "ascent.centred-gradient"),
    (
        "decay-inside",
        {"direction": lambda s: s.g0 + s.h.weight_decay * s.w},
        "ascent.decay-inside",
    ),
    ("stale-g0", {"direction": g0_of_last_step}, "ascent.stale-gradient"),
    ("along-momentum", {"direction": along_momentum}, "ascent.momentum-direction"),
    ("radius-times-lr", {"length": radius(lambda s: s.h.rho * s.h.lr)}, "ascent.radius-times-lr"),
    ("radius-squared", {"length": radius(lambda s: s.h.rho**2)}, "ascent.radius-power"),
    ("radius-root", {"length": radius(lambda s: s.h.rho**0.5)}, "ascent.radius-power"),
    (
        "radius-of-first-step",
        {"length": radius(lambda s: s.state.setdefault("rho", s.h.rho))},
        "ascent.radius-ignored",
        ("limits.rho-zero",),
    ),
    (
        "radius-constant",
        {"length": radius(lambda s: 0.07)},
        "ascent.radius-ignored",
        ("limits.rho-zero",),
    ),
    ("radius-doubled", {"length": radius(lambda s: 2 * s.h.rho)}, "ascent.wrong-radius"),
    ("radius-halved", {"length": radius(lambda s: s.h.rho / 2)}, "ascent.wrong-radius"),
    (
        "radius-relative",
        {"length": radius(lambda s: s.h.rho * norm(s.w))},
        "ascent.relative-radius",
    ),
    (
        "epsilon-large",
        {"length": lambda s: s.h.rho / (norm(s.a) + 0.1) * s.a},
        "ascent.epsilon-too-large",
    ),
    ("fisher", {"length": fisher}, "ascent.unknown"),
    (
        "three-full-steps",
        {"second": several_steps(3, lambda s: s.h.rho)},
        "algorithm.k-step-sam",
        ("ascent.radius-each-step",),
    ),
    (
        "half-of-the-steps-at-w",
        {"length": every_other_step},
        "ascent.skipped",
        ("cost.extra-evaluations",),
    ),
    (
        "no-epsilon",
        {"length": lambda s: s.h.rho / norm(s.a) * s.a},
        "ascent.nan-at-zero-gradient",
    ),
    (
        "perturbs-a-copy",
        {"second": at_w},
        "ascent.missing",
        ("algorithm.base-optimizer",),
        ("algorithm.base-optimizer",),
    ),
    (
        "rho-zero-is-falsy",
        {"length": radius(lambda s: s.h.rho or 0.05)},
        "limits.rho-zero",
    ),
    # SAM: the way back
    ("not-undone", NOT_UNDONE, "restore.not-undone"),
    ("undone-twice", {"start": lambda s: s.w - s.eps}, "restore.undone-twice"),
    ("recomputed", {"start": recomputed}, "restore.recomputed"),
    # SAM: the base step
    ("uses-g0", {"gradient": lambda s: s.g0}, "update.uses-first-gradient"),
    ("gradients-added", {"gradient": mixed(1, 1)}, "update.gradients-added"),
    ("gradients-averaged", {"gradient": mixed(0.5, 0.5)}, "update.gradients-averaged"),
    ("gradients-mixed", {"gradient": mixed(0.5, 1)}, "update.gradients-mixed"),
    ("summed-loss", {"gradient": mixed(0, 8)}, "update.scaled-gradient"),
    (
        "normalised-gradient",
        {"gradient": lambda s: unit(s.g)},
        "update.normalised-gradient",
    ),
    ("stale-g", {"gradient": g_of_last_step}, "update.stale-gradient"),
    ("decay-missing", {"move": decay_missing}, "update.decay-missing"),
    ("decay-at-perturbed", {"move": decay_at_perturbed}, "update.decay-at-perturbed"),
    ("decay-decoupled", {"move": decay_decoupled}, "update.decay-decoupled"),
    ("decay-twice", {"move": decay_twice}, "update.decay-twice"),
    ("momentum-missing", {"move": momentum_missing}, "update.momentum-missing"),
    ("momentum-dampened", {"move": dampened}, "update.momentum-dampened"),
    ("nesterov", {"move": nesterov}, "update.nesterov"),
    ("momentum-twice", {"move": momentum_twice}, "update.momentum-twice"),
    ("two-steps", {"move": two_steps}, "update.two-steps"),
    ("lr-of-first-step", {"move": lr_of_first_step}, "update.lr-ignored"),
    ("no-step", {"move": no_step}, "update.no-step"),
    ("climbs", {"move": ascends}, "update.ascends"),
    # Other algorithms
    (
        "two-ascents",
        {"second": several_steps(2, lambda s: s.h.rho / 2)},
        "algorithm.k-step-sam",
    ),
    ("asam", {"length": asam_eps}, "algorithm.asam"),
    ("gsam", {"gradient": gap_guided}, "algorithm.gsam"),
    ("wsam", {"gradient": wsam(0.9)}, "algorithm.wsam"),
    ("friendly", {"direction": friendly}, "algorithm.friendly-sam"),
    ("friendly-before", {"direction": friendly_before}, "algorithm.friendly-sam"),
]:
    plant(f"sam-{name}", "sam", sam(**hooks), code, *more)

plant("sam-plain-sgd", "sam", one_gradient_a_step(), "algorithm.base-optimizer", ["ascent.missing"])
plant("sam-noise-only", "sam", one_gradient_a_step(drawn()), "algorithm.noise-only")
plant("sam-is-rsam", "sam", rsam(), "algorithm.rsam")
plant("sam-is-stacked", "sam", rsam(direction=lambda s: s.g0, second=lambda s: s.w + s.D + s.eps),
      "algorithm.rsam-stacked")  # fmt: skip
plant("sam-looksam", "sam", looksam(), "algorithm.looksam", ["ascent.skipped"])
plant("sam-skips-every-other", "sam", skips_every_other, "ascent.skipped")
plant("sam-reuses-last-gradient", "sam", last_gradient_instead_of_first, "ascent.stale-gradient")
plant("sam-module-velocity", "sam", velocity_of_the_module, "resume.hidden-state")
plant("sam-forgets-state", "sam", forgets_the_state, "update.momentum-missing")
plant("sam-shared-array", "sam", one_shared_array, "restore.not-undone")

# ASAM
for name, hooks, code, *more in [
    ("is-sam", {"length": to_radius}, "algorithm.sam"),
    (
        "stretched-once",
        {"length": lambda s: s.h.rho * unit(stretch(s) * s.a)},
        "ascent.wrong-scaling",
    ),
    (
        "norm-of-plain-gradient",
        {"length": lambda s: s.h.rho / (norm(s.a) + 1e-12) * (stretch(s) * stretch(s) * s.a)},
        "ascent.wrong-scaling",
    ),
    (
        "not-normalised",
        {"length": lambda s: s.h.rho * (stretch(s) * stretch(s) * s.a)},
        "ascent.not-normalised",
    ),
    ("descends", {"length": lambda s: -1.0 * asam_eps(s)}, "ascent.descends"),
    ("doubled", {"length": lambda s: 2.0 * asam_eps(s)}, "ascent.wrong-radius"),
    ("not-undone", NOT_UNDONE, "restore.not-undone"),
    ("gradients-added", {"gradient": mixed(1, 1)}, "update.gradients-added"),
    ("momentum-dampened", {"move": dampened}, "update.momentum-dampened"),
]:
    plant(f"asam-{name}", "asam", asam(**hooks), code, *more)
plant("asam-plain-sgd", "asam", one_gradient_a_step(), "algorithm.base-optimizer",
      ["ascent.missing"])  # fmt: skip

# R-SAM: the noise
for name, noise, code, *more in [
    ("whole-tensor", drawn(tensor_norm), "noise.whole-tensor"),
    ("columns", drawn(column_norm), "noise.wrong-axis"),
    ("kernels", drawn(kernel_norm), "noise.wrong-axis"),
    ("axis-one", drawn(axis_one_norm), "noise.wrong-axis"),
    ("unscaled", drawn(one), "noise.unscaled"),
    ("elementwise", drawn(np.abs), "noise.elementwise", ["noise.bias-elementwise"]),
    ("rms", drawn(filter_rms), "noise.rms-scale", ["noise.bias-rms-scale"]),
    ("global-norm", global_norm_noise, "noise.global-norm"),
    ("bias-elementwise", drawn(biases(np.abs)), "noise.bias-elementwise"),
    ("bias-unscaled", drawn(biases(one)), "noise.bias-unscaled"),
    ("bias-rms", drawn(biases(filter_rms)), "noise.bias-rms-scale"),
    ("biases-without", drawn(biases(np.zeros_like)), "noise.biases-left-out"),
    ("tensor-without", without_last_matrix, "noise.tensor-left-out"),
    ("variance", drawn(amount=lambda s: s.h.sigma**2), "noise.sigma-squared"),
    ("root", drawn(amount=lambda s: s.h.sigma**0.5), "noise.sigma-root"),
    ("times-lr", drawn(amount=lambda s: s.h.sigma * s.h.lr), "noise.sigma-times-lr"),
    (
        "sigma-of-first-step",
        drawn(amount=sigma_of_first_step),
        "noise.sigma-ignored",
        ["limits.sigma-zero"],
    ),
    ("doubled", drawn(amount=lambda s: 2 * s.h.sigma), "noise.wrong-size"),
    ("halved", drawn(amount=lambda s: s.h.sigma / 2), "noise.wrong-size"),
    ("filter-normalised", drawn(z=filter_normalised), "noise.fixed-length"),
    ("tensor-normalised", drawn(tensor_norm, z=tensor_normalised), "noise.fixed-length"),
    (
        "uniform",
        drawn(z=shaped(lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, shape))),
        "noise.not-gaussian",
    ),
    (
        "signs",
        drawn(z=shaped(lambda rng, shape: rng.choice([-1.0, 1.0], shape))),
        "noise.not-gaussian",
    ),
    (
        "laplace",
        drawn(z=shaped(lambda rng, shape: rng.laplace(scale=0.5**0.5, size=shape))),
        "noise.not-gaussian",
    ),
    (
        "truncated",
        drawn(z=shaped(truncated)),
        "noise.not-gaussian",
        ["noise.wrong-size"],
        ["noise.wrong-size"],
    ),
    (
        "rand-for-randn",
        drawn(z=shaped(lambda rng, shape: rng.random(shape))),
        "noise.not-centred",
        ["noise.not-gaussian", "noise.wrong-size"],
    ),
    (
        "mean-one",
        drawn(z=shaped(lambda rng, shape: rng.normal(1.0, 1.0, shape))),
        "noise.not-centred",
        ["noise.wrong-size", "noise.correlated"],
    ),
    ("one-per-filter", drawn(z=shaped(one_per_filter)), "noise.one-number-per-filter"),
    (
        "one-per-tensor",
        drawn(z=shaped(lambda rng, shape: np.full(shape, rng.standard_normal()))),
        "noise.one-number-per-filter",
    ),
    (
        "same-for-filters",
        drawn(z=shaped(same_for_filters)),
        "noise.same-for-every-filter",
    ),
    ("seeded-inside", drawn(z=seeded_inside), "noise.same-draw", ["noise.correlated"]),
    ("lagging", drawn(z=lagging), "noise.correlated"),
    ("one-key", drawn(z=one_seed_for_all), "noise.same-for-equal-shapes"),
    ("one-seed", drawn(z=one_seed_whatever_shape), "noise.same-for-equal-shapes"),
    ("ball", ball, "algorithm.rsam-ball"),
    ("sigma-zero-is-falsy", drawn(amount=sigma_or_default), "limits.sigma-zero"),
]:
    plant(f"rsam-noise-{name}", "rsam", rsam(noise=noise), code, *more)

# R-SAM: direction, ascent, the way back, the base step
for name, hooks, code, *more in [
    ("not-removed", {"start": lambda s: s.w + s.D}, "noise.not-removed"),
    ("lam-ignored", {"direction": lambda s: s.g0 + s.D}, "direction.lam-ignored"),
    ("lam-fixed", {"direction": lambda s: 0.5 * s.g0 + s.D}, "direction.lam-ignored"),
    ("lam-on-both", {"direction": lambda s: s.h.lam * (s.g0 + s.D)}, "direction.lam-ignored"),
    ("lam-on-noise", {"direction": lambda s: s.g0 + s.h.lam * s.D}, "direction.lam-on-noise"),
    ("lam-inverted", {"direction": lambda s: s.g0 / s.h.lam + s.D}, "direction.lam-on-noise",
     (), ("direction.lam-on-noise",)),
    ("noise-subtracted", {"direction": lambda s: s.h.lam * s.g0 - s.D},
     "direction.noise-subtracted"),
    ("gradient-subtracted", {"direction": lambda s: s.D - s.h.lam * s.g0},
     "direction.gradient-subtracted"),
    ("noise-only-direction", {"direction": lambda s: s.D}, "direction.noise-only"),
    (
        "noise-only-in-norm",
        {"length": lambda s: s.h.rho / (norm(s.a) + 1e-12) * (s.h.lam * s.g0)},
        "direction.noise-only-in-norm",
    ),
    (
        "noise-not-in-norm",
        {"length": lambda s: s.h.rho / (norm(s.h.lam * s.g0) + 1e-12) * s.a},
        "direction.noise-not-in-norm",
        ("ascent.nan-at-zero-gradient",),
    ),
    (
        "gradient-normalised-first",
        {"direction": lambda s: s.h.lam * unit(s.g0) + s.D},
        "direction.normalised-first",
    ),
    (
        "both-normalised-first",
        {"direction": lambda s: s.h.lam * unit(s.g0) + unit(s.D)},
        "direction.normalised-first",
    ),
    (
        "z-in-direction",
        {"direction": lambda s: s.h.lam * s.g0 + s.z},
        "direction.unscaled-noise",
        ("limits.sigma-zero",),
    ),
    (
        "sigma-z-in-direction",
        {"direction": lambda s: s.h.lam * s.g0 + s.h.sigma * s.z},
        "direction.unscaled-noise",
    ),
    ("lam-squared", {"direction": lambda s: s.h.lam**2 * s.g0 + s.D}, "direction.wrong-weights"),
    ("noise-tripled", {"direction": lambda s: s.h.lam * s.g0 + 3 * s.D},
     "direction.wrong-weights"),
    (
        "fresh-draw",
        {"direction": lambda s: s.h.lam * s.g0 + drawn()(s)},
        "direction.fresh-draw",
    ),
    ("gradient-at-w", {"first": at_w}, "direction.gradient-at-w"),
    ("from-the-noise", {"second": lambda s: s.w + s.D + s.eps}, "direction.measured-from-noise"),
    ("per-tensor", {"length": per_tensor}, "ascent.norm-per-tensor"),
    ("not-normalised", {"length": lambda s: s.h.rho * s.a}, "ascent.not-normalised"),
    ("squared-norm", {"length": divided_by(lambda a: dot(a, a))}, "ascent.squared-norm"),
    ("descends", {"length": lambda s: -1.0 * to_radius(s)}, "ascent.descends",
     (), ("direction.gradient-subtracted",)),
    ("radius-times-lr", {"length": radius(lambda s: s.h.rho * s.h.lr)}, "ascent.radius-times-lr"),
    ("radius-doubled", {"length": radius(lambda s: 2 * s.h.rho)}, "ascent.wrong-radius"),
    ("not-undone", NOT_UNDONE, "restore.not-undone"),
    ("undone-twice", {"start": lambda s: s.w - s.eps}, "restore.undone-twice"),
    ("uses-g0", {"gradient": lambda s: s.g0}, "update.uses-first-gradient"),
    ("gradients-added", {"gradient": mixed(1, 1)}, "update.gradients-added"),
    ("decay-at-perturbed", {"move": decay_at_perturbed}, "update.decay-at-perturbed"),
    ("momentum-dampened", {"move": dampened}, "update.momentum-dampened"),
    ("momentum-twice", {"move": momentum_twice}, "update.momentum-twice"),
    # Other algorithms
    ("is-sam", {"noise": None, "direction": lambda s: s.g0}, "algorithm.sam",
     ("noise.missing",), ("noise.missing",)),
    ("stacked", {"direction": lambda s: s.g0, "second": lambda s: s.w + s.D + s.eps},
     "algorithm.rsam-stacked"),
    ("gradient", {"direction": lambda s: s.g0}, "algorithm.rsam-gradient"),
    ("is-asam", {"noise": None, "direction": lambda s: s.g0, "length": asam_eps},
     "algorithm.asam", ("noise.missing",)),
]:  # fmt: skip
    plant(f"rsam-{name}", "rsam", rsam(**hooks), code, *more)

plant("rsam-noise-after-ascent", "rsam", noise_after_ascent, "noise.added-after-ascent")
plant("rsam-noise-only", "rsam", one_gradient_a_step(drawn()), "algorithm.noise-only",
      ["ascent.missing"])  # fmt: skip
plant("rsam-plain-sgd", "rsam", one_gradient_a_step(), "algorithm.base-optimizer",
      ["ascent.missing", "noise.missing"])  # fmt: skip

# Two bugs at once, in stages that do not depend on each other: both must be found.
COMPOUND: dict[str, tuple[str, ...]] = {
    "sam-three-full-steps": ("algorithm.k-step-sam", "ascent.radius-each-step"),
}


def compound(name, algorithm, subject, *codes, also=(), instead=()):
    COMPOUND[name] = codes
    plant(name, algorithm, subject, codes[0], [*codes[1:], *also], instead)


compound("sam-tensor-norm-and-dampened", "sam", sam(length=per_tensor, move=dampened),
         "ascent.norm-per-tensor", "update.momentum-dampened")  # fmt: skip
compound("sam-descends-and-decoupled", "sam",
         sam(length=lambda s: -1.0 * to_radius(s), move=decay_decoupled),
         "ascent.descends", "update.decay-decoupled")  # fmt: skip
compound("sam-not-normalised-and-nesterov", "sam",
         sam(length=lambda s: s.h.rho * s.a, move=nesterov),
         "ascent.not-normalised", "update.nesterov")  # fmt: skip
compound("sam-doubled-and-averaged", "sam",
         sam(length=radius(lambda s: 2 * s.h.rho), gradient=mixed(0.5, 0.5)),
         "ascent.wrong-radius", "update.gradients-averaged")  # fmt: skip
compound("sam-not-undone-and-added", "sam", sam(gradient=mixed(1, 1), **NOT_UNDONE),
         "restore.not-undone", "update.gradients-added")  # fmt: skip
compound("sam-decay-in-the-loss", "sam",
         sam(direction=lambda s: s.g0 + s.h.weight_decay * s.w, move=decay_at_perturbed),
         "ascent.decay-inside", "update.decay-at-perturbed")  # fmt: skip
compound("sam-lr-radius-and-no-momentum", "sam",
         sam(length=radius(lambda s: s.h.rho * s.h.lr), move=momentum_missing),
         "ascent.radius-times-lr", "update.momentum-missing")  # fmt: skip
compound("sam-no-biases-and-undone-twice", "sam",
         sam(length=biases_left_out, start=lambda s: s.w - s.eps),
         "ascent.biases-left-out", "restore.undone-twice")  # fmt: skip
compound("sgd-dampened", "sam", one_gradient_a_step(move=dampened),
         "algorithm.base-optimizer", "update.momentum-dampened",
         also=["ascent.missing"], instead=["ascent.missing"])  # fmt: skip
compound("asam-not-undone-and-no-decay", "asam", asam(move=decay_missing, **NOT_UNDONE),
         "restore.not-undone", "update.decay-missing")  # fmt: skip
compound("rsam-tensor-noise-lam-on-noise-not-undone", "rsam",
         rsam(noise=drawn(tensor_norm), direction=lambda s: s.g0 + s.h.lam * s.D, **NOT_UNDONE),
         "noise.whole-tensor", "direction.lam-on-noise", "restore.not-undone")  # fmt: skip
compound("rsam-variance-from-the-noise", "rsam",
         rsam(noise=drawn(amount=lambda s: s.h.sigma**2), second=lambda s: s.w + s.D + s.eps),
         "noise.sigma-squared", "direction.measured-from-noise")  # fmt: skip
compound("rsam-seeded-no-lam-no-momentum", "rsam",
         rsam(noise=drawn(z=seeded_inside), direction=lambda s: s.g0 + s.D, move=momentum_missing),
         "noise.same-draw", "direction.lam-ignored", "update.momentum-missing",
         also=["noise.correlated"])  # fmt: skip
compound("rsam-one-per-filter-seeded", "rsam",
         rsam(noise=drawn(z=one_per_filter_seeded)),
         "noise.one-number-per-filter", "noise.same-draw")  # fmt: skip
compound("rsam-columns-not-removed", "rsam",
         rsam(noise=drawn(column_norm), start=lambda s: s.w + s.D),
         "noise.wrong-axis", "noise.not-removed")  # fmt: skip
compound("rsam-no-bias-noise-tensor-norm", "rsam",
         rsam(noise=drawn(biases(np.zeros_like)), length=per_tensor),
         "noise.biases-left-out", "ascent.norm-per-tensor")  # fmt: skip
compound("rsam-uniform-subtracted", "rsam",
         rsam(noise=drawn(z=shaped(lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, shape))),
              direction=lambda s: s.h.lam * s.g0 - s.D),
         "noise.not-gaussian", "direction.noise-subtracted")  # fmt: skip
compound("rsam-no-noise-not-undone", "rsam",
         rsam(noise=None, direction=lambda s: s.g0, **NOT_UNDONE),
         "noise.missing", "restore.not-undone",
         also=["algorithm.sam"], instead=["algorithm.sam"])  # fmt: skip
compound("rsam-bias-unscaled-norm-only-not-undone", "rsam",
         rsam(noise=drawn(biases(one)), **NOT_UNDONE,
              length=lambda s: s.h.rho / (norm(s.a) + 1e-12) * (s.h.lam * s.g0)),
         "noise.bias-unscaled", "direction.noise-only-in-norm", "restore.not-undone",
         )  # fmt: skip

try:
    from .plants_loaders import PLANTS as _LOADERS
    from .plants_misread_torch import PLANTS as _MISREAD
    from .plants_modes import PLANTS as _MODES
    from .plants_precision import PLANTS as _PRECISION
    from .plants_torch import COMPOUND as _COMPOUND
    from .plants_torch import PLANTS as _PLANTS
except ModuleNotFoundError as missing:  # without PyTorch there are the NumPy forms
    if missing.name != "torch":
        raise
else:
    PLANTS += [Plant(*row) for row in [*_PLANTS, *_MODES, *_MISREAD, *_PRECISION, *_LOADERS]]
    COMPOUND.update(_COMPOUND)

from . import (  # noqa: E402  (on the right step above)
    plants_arrays,
    plants_late,
    plants_misread,
    plants_more,
    plants_settings,
    plants_unnamed,
)

PLANTS += plants_more.MORE + plants_misread.MISREAD + plants_settings.SETTINGS
PLANTS += plants_unnamed.UNNAMED
PLANTS += plants_late.LATE
PLANTS += [Plant(*row) for row in plants_arrays.PLANTS]

from .plants_relatives import KNOWN, step_of  # noqa: E402

_PLANTED = {row.code for row in PLANTS}
PLANTS += [
    Plant(f"function-{name}", "function", "sam", step_of(name, **settings), code)
    for name, settings, code in KNOWN
    if code not in _PLANTED
]

NOT_PLANTED: dict[str, str] = {
    "noise.last-axis": "a note on JAX code, held in tests/frameworks",
    "precision.float16-overflow": "a note; float16 weights are a probe of the checker's own",
    **{
        f"processes.{code}": "needs two processes: planted in tests/frameworks/test_processes.py"
        for code in (
            *("synchronised", "per-worker", "not-averaged"),
            *("replicas-drift", "own-draws", "same-draw"),
        )
    },
}
