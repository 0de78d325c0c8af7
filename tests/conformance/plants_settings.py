"""Base steps that take the settings that are set and use them otherwise than SGD does.

Like plants.py, whose right step they change; its PLANTS takes them in. What is right beside them
has a base step of its own, with constants of its own: rows of right.py.
"""

from __future__ import annotations

import numpy as np

from .plants import Arrays, Plant, norm, rsam, sam

SETTINGS: list[Plant] = []


def plant(name, algorithm, subject, code, also=(), instead=()):
    SETTINGS.append(Plant(name, "function", algorithm, subject, code, tuple(also), tuple(instead)))


def sgd_but(
    velocity=lambda s, v, g: s.h.momentum * v + g,
    decay=lambda s, w: s.h.weight_decay * w,
    gradient=lambda g: g,
    rate=lambda s, t: s.h.lr,
):
    """SGD in full, one part of which is another. ``t``: the number of the step, from 0."""

    def move(s, w, g):
        t = s.state["t"] - 1
        g = Arrays(map(gradient, g)) + decay(s, w)
        s.state["v"] = velocity(s, s.state["v"], g) if "v" in s.state else g
        return w - rate(s, t) * s.state["v"]

    return move


def each(f):
    return lambda s, w: s.h.weight_decay * w.map(f)


def forgetful(s, v, g):
    """The velocity is begun anew in every other step."""
    return g if s.state["t"] % 2 else s.h.momentum * v + g


MOMENTUM, DECAY, RATE = "update.momentum-changed", "update.decay-changed", "update.lr-changed"

for name, part, code in [
    ("momentum-squared", {"velocity": lambda s, v, g: s.h.momentum**2 * v + g}, MOMENTUM),
    ("momentum-shortened", {"velocity": lambda s, v, g: 0.9 * s.h.momentum * v + g}, MOMENTUM),
    ("momentum-minus", {"velocity": lambda s, v, g: s.h.momentum * v - g}, MOMENTUM),
    ("momentum-on-g", {"velocity": lambda s, v, g: v + s.h.momentum * g}, MOMENTUM),
    ("momentum-on-both", {"velocity": lambda s, v, g: s.h.momentum * (v + g)}, MOMENTUM),
    ("momentum-forgotten", {"velocity": forgetful}, MOMENTUM),
    ("decay-halved", {"decay": lambda s, w: 0.5 * s.h.weight_decay * w}, DECAY),
    ("decay-squared", {"decay": lambda s, w: s.h.weight_decay**2 * w}, DECAY),
    ("decay-times-rate", {"decay": lambda s, w: s.h.lr * s.h.weight_decay * w}, DECAY),
    ("decay-of-sizes", {"decay": each(np.abs)}, DECAY),
    ("decay-of-signs", {"decay": each(np.sign)}, DECAY),
    ("rate-grows", {"rate": lambda s, t: s.h.lr * (1 + 0.1 * t)}, RATE),
    ("rate-turns", {"rate": lambda s, t: s.h.lr * (-1) ** t}, "update.ascends"),
    ("gradient-by-tensor", {"gradient": lambda g: g / (np.abs(g).max() + 1e-12)}, "update.unknown"),
    ("gradient-lopsided", {"gradient": lambda g: np.where(g > 0, g, 0.9 * g)}, "update.unknown"),
]:
    plant(f"sam-{name}", "sam", sam(move=sgd_but(**part)), code)

plant("rsam-decay-halved", "rsam", rsam(move=sgd_but(lambda s, v, g: s.h.momentum * v + g,
      lambda s, w: 0.5 * s.h.weight_decay * w)), DECAY)  # fmt: skip


# Right --------------------------------------------------------------------------------------------


def own_constants(s, w, g):
    """SGD whose momentum and weight decay nobody sets."""
    g = g + 0.002 * w
    s.state["v"] = 0.7 * s.state["v"] + g if "v" in s.state else g
    return w - s.h.lr * s.state["v"]


def own_reset(s, w, g):
    """A momentum of its own, which begins anew in every other step: no rule that is known."""
    s.state["v"] = g if s.state["t"] % 2 else 0.7 * s.state["v"] + g
    return w - s.h.lr * s.state["v"]


def cut_to_the_last(s, w, g):
    """SGD of a gradient that is cut to the length of the last one: no length that is known."""
    length = float(norm(g)) + 1e-12
    g = g * min(1.0, s.state.get("length", length) / length)
    s.state["length"] = length
    g = g + s.h.weight_decay * w
    s.state["v"] = s.h.momentum * s.state["v"] + g if "v" in s.state else g
    return w - s.h.lr * s.state["v"]


def amsgrad(s, w, g):
    """Adam that never forgets a large gradient; momentum is its beta1."""
    beta = s.h.momentum
    zeros = 0.0 * g
    t = s.state["t"]
    m = s.state["m"] = beta * s.state.get("m", zeros) + (1 - beta) * g
    squares = Arrays(x * x for x in g)
    v = s.state["v"] = 0.9 * s.state.get("v", zeros) + 0.1 * squares
    most = s.state["most"] = Arrays(map(np.maximum, s.state.get("most", zeros), v))
    return w - s.h.lr / (1 - beta**t) * Arrays(a / (np.sqrt(b) + 1e-3) for a, b in zip(m, most))


NOTED_SETTINGS = [
    ("sam-own-constants", "function", "sam", sam(move=own_constants), ("update.own-base",)),
    ("sam-own-reset", "function", "sam", sam(move=own_reset), ("update.not-judged",)),
    ("sam-cut-to-the-last", "function", "sam", sam(move=cut_to_the_last), ("update.clipped",)),
    ("sam-amsgrad", "function", "sam", sam(move=amsgrad), ("update.not-judged",)),
]
"""Right, with a base step of its own: rows of right.py."""
