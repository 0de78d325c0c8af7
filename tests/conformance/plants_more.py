"""Wrong implementations of kinds that strangers wrote: more draws, more radii, other algorithms.

Like plants.py, whose right step they change; its PLANTS takes them in.
"""

from __future__ import annotations

import numpy as np

from .plants import Arrays, Plant, drawn, filter_norm, gaussian, rsam, shaped

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

NOTED_MORE = [
    (
        "rsam-draws-in-float16",
        "function",
        "rsam",
        rsam(noise=drawn(z=shaped(in_half_precision))),
        ("noise.low-precision",),
    )
]
"""Right, with a habit: rows of right.py."""
