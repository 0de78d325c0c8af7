"""Mistakes that some steps make and the others do not: from a step on, or now and then.

Like plants.py, whose right step they change; its PLANTS takes them in. The main run has 6 steps,
the longer one 24.
"""

from __future__ import annotations

import numpy as np

from .plants import (
    Arrays,
    Plant,
    drawn,
    per_tensor,
    rsam,
    sam,
    second_gradient,
    sgd,
    to_radius,
)

LATE: list[Plant] = []
WHEN: dict[str, str] = {}
"""By the plant's name, the steps that must be told."""


def from_step(number):
    return lambda s: s.state["t"] >= number


def every(period):
    return lambda s: s.state["t"] % period == 0


def when(here, then, usual):
    """``then`` in the steps for which ``here`` holds, else ``usual``."""
    return lambda s, *more: (then if here(s) else usual)(s, *more)


def first_gradient(s):
    return s.g0


def left(what):
    """The base step, with the perturbation or the draw left in the weights."""
    return lambda s, w, g: sgd(s, w, g) + what(s)


def forgets(s, w, g):
    s.state.pop("v", None)
    return sgd(s, w, g)


def tenth_of_lr(s, w, g):
    return w - (w - sgd(s, w, g)) * 0.1


def no_decay(s, w, g):
    return sgd(s, 0 * w, g) + w


def looks_back(s, w, g):
    """Lookahead: half of the way back to where the weights were five steps before."""
    slow = s.state.get("slow", s.first)
    s.state["slow"] = slow + (sgd(s, w, g) - slow) * 0.5
    return s.state["slow"]


def slow_weights(s):
    """Where the run begins, for Lookahead."""
    s.first = s.state.setdefault("first", s.w.map(np.copy))
    return s.w


def heavy_ball(s, w, g):
    """Momentum from the last move, which is measured from the perturbed weights."""
    last = s.state.get("last", w)
    s.state["last"] = s.q2
    return w - (g + s.h.weight_decay * w) * s.h.lr + (w - last) * s.h.momentum


def adam(s, w, g):
    """Adam of its own, with weight decay past its state."""
    t = s.state["t"]
    m, v = s.state.get("mean", 0 * g), s.state.get("square", 0 * g)
    s.state["mean"], s.state["square"] = m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * (g * g)
    moved = Arrays(
        m_ / (1 - 0.9**t) / (np.sqrt(v_ / (1 - 0.999**t)) + 1e-8) for m_, v_ in zip(m, v)
    )
    return w - s.h.lr * s.h.weight_decay * w - s.h.lr * moved


def eps_and_adam(s, w, g):
    return adam(s, w, g) + s.eps


def no_draw(s):
    return s.w.map(np.zeros_like)


NOT_UNDONE, FIRST = "restore.not-undone", "update.uses-first-gradient"
OFF, LEFT = "update.momentum-changed", "noise.not-removed"
eps_left, draw_left = left(lambda s: s.eps), left(lambda s: s.D)

for name, algorithm, subject, code, told in [
    ("g0-from-8", "sam", sam(gradient=when(from_step(8), first_gradient, second_gradient)), FIRST,
     "from step 8 on"),
    ("g0-each-4", "sam", sam(gradient=when(every(4), first_gradient, second_gradient)), FIRST,
     "in step 4"),
    ("eps-stays-each-6", "sam", sam(move=when(every(6), eps_left, sgd)), NOT_UNDONE, "in step 6"),
    ("eps-stays-each-2", "sam", sam(move=when(every(2), eps_left, sgd)), NOT_UNDONE,
     "in steps 2, 4, 6"),
    ("eps-stays-each-10", "sam", sam(move=when(every(10), eps_left, sgd)), NOT_UNDONE,
     "in steps 10, 20"),
    ("eps-stays-adam-10", "sam", sam(move=when(every(10), eps_and_adam, adam)), NOT_UNDONE,
     "in steps 10, 20"),
    ("draw-stays-each-6", "rsam", rsam(move=when(every(6), draw_left, sgd)), LEFT, "in step 6"),
    ("draw-stays-each-10", "rsam", rsam(move=when(every(10), draw_left, sgd)), LEFT,
     "in steps 10, 20"),
    ("forgets-each-5", "sam", sam(move=when(every(5), forgets, sgd)), OFF, "in step 5"),
    ("forgets-each-10", "rsam", rsam(move=when(every(10), forgets, sgd)), OFF, "in steps 10, 20"),
    ("perturbed-heavy-ball", "sam", sam(move=heavy_ball), OFF, "from step 2 on"),
    ("lr-from-9", "sam", sam(move=when(from_step(9), tenth_of_lr, sgd)), "update.lr-changed",
     "from step 9 on"),
    ("decay-until-9", "sam", sam(move=when(from_step(9), no_decay, sgd)), "update.decay-missing",
     "from step 9 on"),
    ("looks-back-each-5", "sam", sam(first=slow_weights, move=when(every(5), looks_back, sgd)),
     "update.unknown", "in step 5"),
    ("draws-until-12", "rsam", rsam(noise=when(from_step(12), no_draw, drawn())), "noise.missing",
     ""),
    ("norms-from-10", "sam", sam(length=when(from_step(10), per_tensor, to_radius)),
     "ascent.norm-per-tensor", "from step 10 on"),
    ("norms-each-6", "sam", sam(length=when(every(6), per_tensor, to_radius)),
     "ascent.norm-per-tensor", "in step 6"),
    ("no-lam-from-10", "rsam",
     rsam(direction=when(from_step(10), lambda s: s.g0 + s.D,
                         lambda s: s.h.lam * s.g0 + s.D)),
     "direction.lam-ignored", "from step 10 on"),
]:  # fmt: skip
    LATE.append(Plant(f"late-{name}", "function", algorithm, subject, code))
    WHEN[f"late-{name}"] = told
