"""Wrong implementations that a check once found wrong and could not name.

Like plants.py, whose right step they change; its PLANTS takes them in.
"""

from __future__ import annotations

import numpy as np

from .plants import COMPOUND, Plant, filter_norm, norm, rsam, sam

UNNAMED: list[Plant] = []


def plant(name, algorithm, subject, *codes):
    UNNAMED.append(Plant(name, "function", algorithm, subject, codes[0], codes[1:]))
    if len(codes) > 1:
        COMPOUND[name] = codes


# Noise that is taken away wrongly -----------------------------------------------------------------


def another(s):
    """A draw of its own, at the weights as they are then."""
    noisy = s.w + s.D
    return noisy.map(lambda w: s.h.sigma * filter_norm(w) * s.rng.standard_normal(w.shape))


def again(s):
    """The same random numbers, times the norms of the filters as they are then."""
    return s.h.sigma * ((s.w + s.D).map(filter_norm) * s.z)


def less(noise):
    """To w + D - noise(s) + eps; what is left stays known as s.place."""

    def second(s):
        s.place = s.w + s.D - noise(s)
        return s.place + s.eps

    return second


def at_the_place(s):
    return s.place


for label, noise in {"another-draw": another, "drawn-again": again}.items():
    for where, start in {"kept": {"start": at_the_place}, "restored": {}}.items():
        plant(f"rsam-{label}-removed-{where}", "rsam", rsam(second=less(noise), **start),
              "noise.not-removed")  # fmt: skip


def cut_first(s):
    return s.h.lam * min(1.0, 0.5 / (norm(s.g0) + 1e-12)) * s.g0 + s.D


plant("rsam-first-gradient-cut", "rsam", rsam(direction=cut_first), "direction.clipped-first")


# A perturbed copy of the network that is not brought up to date -----------------------------------


def around_a_copy(every):
    """The copy's weights are those of each ``every``-th step; of the first one for 0."""

    def second(s):
        stale = every == 0 or (s.state["t"] - 1) % every
        if "copy" not in s.state or not stale:
            s.state["copy"] = s.w.map(np.copy)
        return s.state["copy"] + s.eps

    return second


plant("sam-around-the-first-weights", "sam", sam(second=around_a_copy(0)), "ascent.stale-weights")
plant("sam-around-a-copy-now-and-then", "sam", sam(second=around_a_copy(3)), "ascent.stale-weights")
plant("rsam-around-the-first-weights", "rsam", rsam(second=around_a_copy(0)),
      "ascent.stale-weights")  # fmt: skip


# A second gradient that is scaled by the first one's length ---------------------------------------


def by_the_first(share):
    return lambda s: share(norm(s.g0) + 1e-12) * s.g


SCALED = "update.scaled-by-first"
for name, share in {
    "cut": lambda size: min(1.0, 0.5 / size),
    "cut-at-an-odd-length": lambda size: min(1.0, 0.37 / size),
    "normalised": lambda size: 1 / size,
}.items():
    plant(f"sam-{name}-like-the-first", "sam", sam(gradient=by_the_first(share)), SCALED)
plant("rsam-cut-like-the-first", "rsam",
      rsam(gradient=by_the_first(lambda size: min(1.0, 0.5 / size))), SCALED)  # fmt: skip


# A base step in the first pass, too ---------------------------------------------------------------


def two_plain_steps(params, grad_fn, *, lr, rho):
    """No momentum, no decay: the ascent goes along g0 all the same, and is shorter."""
    first = grad_fn(params)
    size = np.sqrt(sum(np.sum(g * g) for g in first)) + 1e-12
    params = [w - lr * g for w, g in zip(params, first)]
    second = grad_fn([w + rho / size * g for w, g in zip(params, first)])
    return [w - lr * g for w, g in zip(params, second)]


plant("sam-two-plain-steps", "sam", two_plain_steps, "update.two-steps")
