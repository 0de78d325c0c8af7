"""Wrong implementations of kinds that strangers wrote: more draws, more radii, other algorithms.

Like plants.py, whose right step they change; its PLANTS takes them in.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .plants import (
    Arrays,
    Plant,
    adam,
    asam,
    drawn,
    filter_norm,
    gaussian,
    lion,
    norm,
    one_gradient_a_step,
    radius,
    rsam,
    sam,
    sgd,
    shaped,
    stretch,
    to_radius,
    unit,
)

MORE: list[Plant] = []


def plant(name, algorithm, subject, code, also=(), instead=()):
    MORE.append(Plant(name, "function", algorithm, subject, code, tuple(also), tuple(instead)))


# R-SAM: the draw ----------------------------------------------------------------------------------


def over_filters(reduce):
    """A measure of each filter, of a whole vector."""

    def scale(w):
        axes = tuple(range(1, w.ndim)) or None
        return reduce(np.abs(w), axis=axes, keepdims=True)

    return scale


def convolutions_whole(w):
    return np.linalg.norm(w) if w.ndim == 4 else filter_norm(w)


def matrices_whole(w):
    return np.linalg.norm(w) if w.ndim == 2 else filter_norm(w)


def seeded_by(number):
    """The generator of a step: seeded by `number(t)`, t from 1."""

    def z(s):
        rng = np.random.default_rng(100 + number(s.state["t"]))
        return s.w.map(lambda w: rng.standard_normal(w.shape).astype(w.dtype))

    return z


def antithetic(s):
    if s.state["t"] % 2 == 0:
        return s.state["z"] * -1.0
    s.state["z"] = gaussian(s)
    return s.state["z"]


def seeded_by_place_and_step(s):
    """One seed for a tensor in a step: the tensor's number plus the step's."""
    t = s.state["t"]
    return Arrays(
        np.random.default_rng(i + t).standard_normal(w.size).reshape(w.shape).astype(w.dtype)
        for i, w in enumerate(s.w)
    )


def half_and_again(rng, shape):
    """Half of the numbers are drawn, and used again for the other half."""
    size = int(np.prod(shape))
    half = rng.standard_normal(-(-size // 2))
    return np.concatenate([half, half])[:size].reshape(shape)


def every_other(s):
    noise = drawn()(s)
    return noise if s.state["t"] % 2 else 0.0 * noise


def in_half_precision(rng, shape):
    return rng.standard_normal(shape).astype(np.float16)


def ball_of_the_weights(s):
    """sigma ||w|| z / ||z||: an exact length over all weights."""
    z = gaussian(s) * s.w.map(filter_norm)
    size = np.sqrt(sum((x * x).sum() for x in z))
    return s.h.sigma * np.sqrt(sum((w * w).sum() for w in s.w)) / size * z


for name, noise, code, *more in [
    ("root-norm", drawn(lambda w: filter_norm(w) ** 0.5), "noise.norm-power"),
    ("squared-norm", drawn(lambda w: filter_norm(w) ** 2), "noise.norm-power"),
    ("norm-to-the-0.7", drawn(lambda w: filter_norm(w) ** 0.7), "noise.unknown-scale"),
    ("largest-weight", drawn(over_filters(np.max)), "noise.other-norm"),
    ("mean-weight", drawn(over_filters(np.mean)), "noise.other-norm"),
    ("weights-to-the-half", drawn(lambda w: np.abs(w) ** 0.5), "noise.unknown-scale"),
    ("fan-in", drawn(lambda w: (w.size / w.shape[0]) ** -0.5), "noise.unscaled"),
    ("convolutions-whole", drawn(convolutions_whole), "noise.whole-tensor"),
    ("matrices-whole", drawn(matrices_whole), "noise.whole-tensor"),
    ("annealed", drawn(amount=lambda s: s.h.sigma / s.state["t"]), "noise.wrong-size"),
    ("every-other-seed", drawn(z=seeded_by(lambda t: t % 2)), "noise.same-draw"),
    ("three-seeds", drawn(z=seeded_by(lambda t: t % 3)), "noise.same-draw"),
    ("antithetic", drawn(z=antithetic), "noise.correlated"),
    ("seed-of-place-and-step", drawn(z=seeded_by_place_and_step), "noise.same-for-equal-shapes"),
    ("half-and-again", drawn(z=shaped(half_and_again)), "noise.repeated-in-tensor"),
    ("every-other-step", every_other, "noise.missing"),
    ("exact-length-of-all", ball_of_the_weights, "noise.fixed-length"),
    (
        "student",
        drawn(z=shaped(lambda rng, shape: rng.standard_t(4, shape) * 0.5**0.5)),
        "noise.not-gaussian",
    ),
    (
        "logistic",
        drawn(z=shaped(lambda rng, shape: rng.logistic(scale=3**0.5 / np.pi, size=shape))),
        "noise.not-gaussian",
    ),
    (
        "clipped",
        drawn(z=shaped(lambda rng, shape: np.clip(rng.standard_normal(shape), -2, 2))),
        "noise.not-gaussian",
    ),
    (
        "absolute",
        drawn(z=shaped(lambda rng, shape: np.abs(rng.standard_normal(shape)))),
        "noise.not-centred",
        ["noise.not-gaussian"],
    ),
    (
        "exponential",
        drawn(z=shaped(lambda rng, shape: rng.exponential(size=shape) - 1)),
        "noise.not-gaussian",
    ),
]:
    plant(f"rsam-noise-{name}", "rsam", rsam(noise=noise), code, *more)


# SAM: the radius ----------------------------------------------------------------------------------


def over(length):
    """rho a / length(norm of a)."""
    return lambda s: s.h.rho / length(norm(s.a)) * s.a


def tensor_norms(a):
    return [np.linalg.norm(x.ravel()) + 1e-12 for x in a]


def per_module(s):
    """Weight and bias of a layer are normalised together."""
    out = []
    for weight, bias in zip(s.a[::2], s.a[1::2]):
        size = np.sqrt((weight * weight).sum() + (bias * bias).sum()) + 1e-12
        out += [s.h.rho / size * weight, s.h.rho / size * bias]
    return Arrays(out)


def first_matrix_left_out(s):
    return s.h.rho * unit(Arrays([s.a[0], s.a[1], 0.0 * s.a[2], *s.a[3:]]))


for name, length, code, *more in [
    ("norm-floor", over(lambda n: max(n, 0.9)), "ascent.bounded-radius"),
    ("radius-cap", radius(lambda s: min(s.h.rho, 0.3)), "ascent.bounded-radius"),
    ("half-normalised", over(lambda n: 1 / (0.5 + 0.5 / (n + 1e-12))), "ascent.partly-normalised"),
    ("fixed-factor", lambda s: 0.05 * s.a, "ascent.not-normalised", ["limits.rho-zero"]),
    ("next-to-nothing", radius(lambda s: 1e-11 * s.h.rho), "ascent.missing"),
    ("warm-up", radius(lambda s: s.h.rho * s.state["t"] / 20), "ascent.radius-scheduled",
     ["resume.hidden-state"]),
    ("root-of-sum-of-norms", lambda s: s.h.rho / sum(tensor_norms(s.a)) ** 0.5 * s.a,
     "ascent.other-norm"),
    ("mean-of-norms", lambda s: s.h.rho / np.mean(tensor_norms(s.a)) * s.a, "ascent.other-norm"),
    ("largest-norm", lambda s: s.h.rho / max(tensor_norms(s.a)) * s.a, "ascent.other-norm"),
    ("second-norm", lambda s: s.h.rho / tensor_norms(s.a)[2] * s.a, "ascent.norm-of-one-tensor"),
    ("per-module", per_module, "ascent.norm-per-module"),
    ("matrix-left-out", first_matrix_left_out, "ascent.tensor-left-out"),
]:  # fmt: skip
    plant(f"sam-{name}", "sam", sam(length=length), code, *more)


# SAM: the direction -------------------------------------------------------------------------------


def mean_of_gradients(keep):
    """A running mean of the first gradients, from the first on."""

    def direction(s):
        s.state["m"] = keep * s.state["m"] + (1 - keep) * s.g0 if "m" in s.state else s.g0
        return s.state["m"]

    return direction


def friendly_with(keep, sigma):
    def direction(s):
        mean = s.state.get("m", 0.0 * s.g0)
        s.state["m"] = keep * mean + (1 - keep) * s.g0
        return s.g0 - sigma * s.state["m"]

    return direction


def unit_steps_with_momentum(s):
    s.state["u"] = 0.9 * s.state["u"] + unit(s.g0) if "u" in s.state else unit(s.g0)
    return s.state["u"]


def kept_by_half(s):
    eps = to_radius(s) + 0.5 * s.state["eps"] if "eps" in s.state else to_radius(s)
    s.state["eps"] = eps
    return eps


def around_the_last_weights(s):
    """The perturbed copy of the network gets its weights one step late."""
    old = s.state.get("old", s.w)
    s.state["old"] = s.w
    return old + s.eps


def first_around_the_last_weights(s):
    old = s.state.get("old", s.w)
    s.state["old"] = s.w
    return old


def clipped_by_value(s):
    return s.g0.map(lambda g: np.clip(g, -0.02, 0.02))


def clipped_by_filter(s):
    """Adaptive clipping."""

    def cut(w, g):
        return g * np.minimum(1, 0.05 * filter_norm(w) / (filter_norm(g) + 1e-12))

    return Arrays(cut(w, g) for w, g in zip(s.w, s.g0))


def trust_ratio(s):
    scale = Arrays(np.linalg.norm(w) / (np.linalg.norm(g) + 1e-12) for w, g in zip(s.w, s.g0))
    return scale * s.g0


def largest_tenth(a):
    return a * (np.abs(a) >= np.quantile(np.abs(a), 0.9))


def without_biases(s):
    t = Arrays(w * 0 if w.ndim == 1 else np.abs(w) + s.h.eta for w in s.w)
    return t * t * s.a / (norm(t * s.a) + 1e-12)


def with_noise(s):
    return s.g0 + 0.02 * gaussian(s)


for name, hooks, code, *more in [
    ("running-mean", {"direction": mean_of_gradients(0.6)}, "algorithm.vasso"),
    ("friendly-0.8", {"direction": friendly_with(0.8, 1.0)}, "algorithm.friendly-sam"),
    ("friendly-half", {"direction": friendly_with(0.9, 0.5)}, "algorithm.friendly-sam"),
    ("unit-steps-with-momentum", {"direction": unit_steps_with_momentum, "length":
     lambda s: s.h.rho * s.a}, "ascent.momentum-direction"),
    ("perturbation-kept", {"length": kept_by_half}, "ascent.kept-perturbation"),
    ("late-copy", {"second": around_the_last_weights}, "ascent.stale-weights"),
    ("late-first-copy", {"first": first_around_the_last_weights}, "ascent.stale-weights",
     ["update.decay-at-perturbed"]),
    ("clipped-by-value", {"direction": clipped_by_value}, "ascent.clipped-gradient"),
    ("clipped-by-filter", {"direction": clipped_by_filter}, "ascent.clipped-gradient"),
    ("trust-ratio", {"direction": trust_ratio}, "ascent.rescaled-gradient"),
    ("noise-in-g0", {"direction": with_noise}, "ascent.noisy-gradient"),
    ("decay-0.3-inside", {"direction": lambda s: s.g0 + 0.3 * s.w}, "ascent.decay-inside"),
    ("largest-tenth", {"length": lambda s: s.h.rho * unit(s.a.map(largest_tenth))},
     "ascent.masked"),
]:  # fmt: skip
    plant(f"sam-{name}", "sam", sam(**hooks), code, *more)


# ASAM and R-SAM


def signed(s):
    t = s.w + s.h.eta
    return s.h.rho / (norm(t * s.a) + 1e-12) * (t * t * s.a)


def by_filters(s):
    t = s.w.map(lambda w: filter_norm(w) + 0 * w) + s.h.eta
    return s.h.rho / (norm(t * s.a) + 1e-12) * (t * t * s.a)


def eta_inside(s):
    t = (s.w * s.w + s.h.eta).map(np.sqrt)
    return s.h.rho / (norm(t * s.a) + 1e-12) * (t * t * s.a)


for name, length, code in [
    ("signed", signed, "ascent.wrong-scaling"),
    ("by-filters", by_filters, "ascent.wrong-scaling"),
    ("eta-under-the-root", eta_inside, "ascent.wrong-scaling"),
    ("without-biases", lambda s: s.h.rho * without_biases(s), "ascent.biases-left-out"),
    ("half-normalised", lambda s: (0.5 / (norm(stretch(s) * s.a) + 1e-12) + 0.5) * s.h.rho * (
        stretch(s) * stretch(s) * s.a), "ascent.partly-normalised"),
]:  # fmt: skip
    plant(f"asam-{name}", "asam", asam(length=length), code)

for name, hooks, code, *more in [
    ("cut-gradient", {"direction": lambda s: s.h.lam * min(1, 0.5 / norm(s.g0)) * s.g0 + s.D},
     "direction.clipped-first"),
    ("norm-floor", {"length": over(lambda n: max(n, 4.0))}, "ascent.bounded-radius"),
    ("per-module", {"length": per_module}, "ascent.norm-per-module"),
    ("matrix-left-out", {"length": first_matrix_left_out}, "ascent.tensor-left-out"),
    ("mean-in-the-direction", {"direction": lambda s: s.h.lam * mean_of_gradients(0.6)(s) + s.D},
     "ascent.momentum-direction"),
    ("without-draw-per-tensor", {"noise": None, "direction": lambda s: s.g0, "length": per_module},
     "noise.missing", ["ascent.norm-per-module"]),
    ("without-draw-twice-the-radius", {"noise": None, "direction": lambda s: s.g0, "length":
     radius(lambda s: 2 * s.h.rho)}, "noise.missing", ["ascent.wrong-radius"]),
]:  # fmt: skip
    plant(f"rsam-{name}", "rsam", rsam(**hooks), code, *more)


# Other algorithms ---------------------------------------------------------------------------------


def second_order(model, optimizer, loss_fn, batch, hyper):
    """eps is not detached: the gradient goes through it as well."""
    import torch
    from torch.func import functional_call

    x, y = batch
    names, weights = zip(*model.named_parameters())
    loss = loss_fn(model(x), y)
    g0 = torch.autograd.grad(loss, weights, create_graph=True)
    size = torch.sqrt(sum((g * g).sum() for g in g0)) + 1e-12
    ahead = {n: w + hyper.rho * g / size for n, w, g in zip(names, weights, g0)}
    optimizer.zero_grad()
    loss_fn(functional_call(model, ahead, (x,)), y).backward()
    optimizer.step()
    return loss.item()


def parts_of_the_batch(model, optimizer, loss_fn, batch, hyper):
    """m-SAM: the mini-batch in two parts, each with its own ascent."""
    import torch

    weights = list(model.parameters())

    def gradients(x, y):
        return torch.autograd.grad(loss_fn(model(x), y), weights)

    total = [torch.zeros_like(w) for w in weights]
    for x, y in zip(*(part.chunk(2) for part in batch)):
        g0 = gradients(x, y)
        size = torch.sqrt(sum((g * g).sum() for g in g0)) + 1e-12
        kept = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for w, g in zip(weights, g0):
                w.add_(hyper.rho * g / size)
        g = gradients(x, y)
        with torch.no_grad():
            for w, old, sums, of_part in zip(weights, kept, total, g):
                w.copy_(old)
                sums.add_(of_part / 2)
    for w, g in zip(weights, total):
        w.grad = g
    optimizer.step()


def velocity_ascent(weights, loss_and_grad, state, hyper):
    """Momentum SAM: one gradient a step, at w + rho v / ||v||."""

    def noise(s):
        return s.h.rho * unit(s.state["v"]) if "v" in s.state else 0.0 * s.w

    return one_gradient_a_step(noise)(weights, loss_and_grad, state, hyper)


def random_perturbation(s):
    return drawn()(s)


def bayesian(weights, loss_and_grad, state, hyper):
    """Bayesian SAM: noise of variance 1 / (N s), eps = rho g0 / s."""
    hooks = {"noise": lambda s: 0.01 * (gaussian(s) / fisher(s).map(np.sqrt)),
             "direction": lambda s: s.g0, "length": lambda s: 0.05 * (s.g0 / fisher(s)),
             "gradient": remember}  # fmt: skip
    return rsam(**hooks)(weights, loss_and_grad, state, hyper)


def fisher(s):
    return s.state.get("s", 0.0 * s.w + 1.0)


def remember(s):
    s.state["s"] = 0.8 * fisher(s) + 0.2 * (s.g0 * s.g0 + 0.1)
    return s.g


def several_from_w(k):
    """Every ascent step begins at w."""

    def second(s):
        eps = s.h.rho * unit(s.a)
        for _ in range(k - 1):
            eps = s.h.rho * unit(s.ask(s.w + eps))
        return s.w + eps

    return second


def look_by_tensors(weights, loss_and_grad, state, hyper):
    """LookSAM tensor by tensor, as packages have it, every second step."""
    state = dict(state)
    state["t"] = state.get("t", 0) + 1
    w = Arrays(x.copy() for x in weights)
    g0 = Arrays(x.copy() for x in loss_and_grad(list(w))[1])
    g = g0
    if state["t"] % 2:
        g = Arrays(x.copy() for x in loss_and_grad(list(w + hyper.rho * unit(g0)))[1])
        state["across"] = Arrays(b - np.vdot(a, b) / np.vdot(a, a) * a for a, b in zip(g0, g))
    else:
        g = Arrays(
            a + 0.5 * np.linalg.norm(a) / np.linalg.norm(b) * b for a, b in zip(g0, state["across"])
        )
    s = SimpleNamespace(h=hyper, state=state)
    return list(sgd(s, w, g)), state


for name, algorithm, subject, code, *more in [
    ("velocity-ascent", "sam", velocity_ascent, "algorithm.momentum-sam"),
    ("random-perturbation", "sam", sam(length=random_perturbation, gradient=lambda s:
     0.5 * s.g0 + 0.5 * s.g), "algorithm.rwp", ["update.gradients-averaged"]),
    ("bayesian", "sam", bayesian, "algorithm.bayesian-sam"),
    ("three-steps-from-w", "sam", sam(second=several_from_w(3)), "algorithm.k-step-sam"),
    ("look-by-tensors", "sam", look_by_tensors, "algorithm.looksam"),
]:  # fmt: skip
    plant(f"{algorithm}-{name}", algorithm, subject, code, *more)


MORE += [
    Plant(
        "loop-sam-second-order",
        "loop",
        "sam",
        second_order,
        "update.second-order",
        ("ascent.nan-at-zero-gradient", "batch-norm.moved-twice"),
    ),
    Plant(
        "loop-sam-parts-of-the-batch",
        "loop",
        "sam",
        parts_of_the_batch,
        "algorithm.m-sam",
        ("batch-norm.moved-twice",),
    ),
]


def clips(s, w, g):
    """SGD with g cut to length 0.5, where it is longer."""
    length = sum(float((part * part).sum()) for part in g) ** 0.5
    return sgd(s, w, g * min(1.0, 0.5 / (length + 1e-6)))


def by_polyak(s, w, g):
    """A step as long as the loss over the squared gradient says, whatever lr is."""
    square = sum(float((part * part).sum()) for part in g)
    return w - g * (0.3 / (square + 1.0))


def by_no_known_rule(s, w, g):
    """Down the gradient's sign, by a root of its size: nobody's optimizer."""
    return w - Arrays(s.h.lr * np.sign(part) * np.abs(part) ** 0.37 for part in g)


def older_weights(s):
    """The copy that is put back was made one step too early."""
    last = s.state.get("saved", s.w)
    s.state["saved"] = s.w
    return last


plant("sam-older-weights", "sam", sam(start=older_weights), "restore.older-weights")

NOTED_MORE = [
    ("sam-adam", "function", "sam", sam(move=adam), ("update.own-base",)),
    ("sam-lion", "function", "sam", sam(move=lion), ("update.own-base",)),
    ("sam-clips", "function", "sam", sam(move=clips), ("update.clipped",)),
    ("sam-own-step-size", "function", "sam", sam(move=by_polyak), ("update.own-step-size",)),
    ("sam-own-rule", "function", "sam", sam(move=by_no_known_rule), ("update.not-judged",)),
    (
        "rsam-draws-in-float16",
        "function",
        "rsam",
        rsam(noise=drawn(z=shaped(in_half_precision))),
        ("noise.low-precision",),
    ),
]
"""Right, with a habit: rows of right.py."""
