"""Implementations that do not work at all, and what a check must say about them.

None of them may hang the checker, end its process, or be called right. `says` is a part of the
message, in any case of letters. ``SOURCES`` are files that cannot even be loaded.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from .right import sam_copies


class Broken(NamedTuple):
    name: str
    form: str
    subject: Any
    says: str
    """Part of the error's message, or of a finding's evidence; empty: it is right."""


class Source(NamedTuple):
    name: str
    text: str
    attribute: str
    says: str


def raises_at_once(weights, loss_and_grad, state, hyper):
    raise ZeroDivisionError("boom at once")


def raises_at_step_three(weights, loss_and_grad, state, hyper):
    moved, after = sam_copies(weights, loss_and_grad, state, hyper)
    after["count"] = state.get("count", 0) + 1
    if after["count"] == 3:
        raise KeyError("boom at three")
    return moved, after


def _returning(change):
    def train_step(weights, loss_and_grad, state, hyper):
        return change(*sam_copies(weights, loss_and_grad, state, hyper))

    return train_step


def hangs(weights, loss_and_grad, state, hyper):
    while True:
        pass


def asks_forever(weights, loss_and_grad, state, hyper):
    while True:
        loss_and_grad(weights)


def asks_with_wrong_shapes(weights, loss_and_grad, state, hyper):
    loss_and_grad([w.ravel()[:-1] for w in weights])
    return weights, state


def asks_with_too_few(weights, loss_and_grad, state, hyper):
    loss_and_grad(weights[:-1])
    return weights, state


def asks_nothing(weights, loss_and_grad, state, hyper):
    return weights, state


def exits(weights, loss_and_grad, state, hyper):
    sys.exit(3)


def talks(weights, loss_and_grad, state, hyper):
    for _ in range(1000):
        print("step " * 20)
    print("warning " * 20, file=sys.stderr)
    return sam_copies(weights, loss_and_grad, state, hyper)


def overwrites_what_it_is_given(weights, loss_and_grad, state, hyper):
    """Right; but every array that it was given is filled with rubbish afterwards."""
    own = [w.copy() for w in weights]

    def spoiling(at):
        at = [w.copy() for w in at]
        loss, gradients = loss_and_grad(at)
        kept = [g.copy() for g in gradients]
        for array in [*gradients, *at]:
            array.fill(np.nan)
        return loss, kept

    result = sam_copies(own, spoiling, state, hyper)
    for w in weights:
        w.fill(np.nan)
    return result


def takes_too_few(weights, loss_and_grad):
    return weights


BROKEN = [
    Broken("raises-at-once", "function", raises_at_once, "boom at once"),
    Broken("raises-at-step-three", "function", raises_at_step_three, "boom at three"),
    Broken("too-few-weights", "function", _returning(lambda w, s: (w[:-1], s)), "weights"),
    Broken("too-many-weights", "function", _returning(lambda w, s: ([*w, w[0]], s)), "weights"),
    Broken(
        "wrong-shapes", "function", _returning(lambda w, s: ([x.ravel() for x in w], s)), "shape"
    ),
    Broken(
        "transposed", "function", _returning(lambda w, s: ([x.T.copy() for x in w], s)), "shape"
    ),
    Broken("nan", "function", _returning(lambda w, s: ([x * np.nan for x in w], s)), "nan"),
    Broken("infinite", "function", _returning(lambda w, s: ([x + np.inf for x in w], s)), "inf"),
    Broken("none", "function", _returning(lambda w, s: None), "None"),
    Broken("weights-alone", "function", _returning(lambda w, s: w), "state"),
    Broken("three-values", "function", _returning(lambda w, s: (w, s, 0.5)), ""),
    Broken("state-none", "function", _returning(lambda w, s: (w, None)), "NoneType"),
    Broken("strings", "function", _returning(lambda w, s: (["w"] * len(w), s)), "weights"),
    Broken("hangs", "function", hangs, "second"),
    Broken("asks-forever", "function", asks_forever, "loss_and_grad"),
    Broken("asks-with-wrong-shapes", "function", asks_with_wrong_shapes, "shape"),
    Broken("asks-with-too-few", "function", asks_with_too_few, "weights"),
    Broken("asks-nothing", "function", asks_nothing, "gradient"),
    Broken("exits", "function", exits, "SystemExit"),
    Broken("takes-too-few", "function", takes_too_few, "argument"),
    Broken("not-callable", "function", 3.0, "callable"),
    Broken("talks", "function", talks, ""),
    Broken("overwrites-what-it-is-given", "function", overwrites_what_it_is_given, ""),
]

_HEAD = "def train_step(weights, loss_and_grad, state, hyper"
SOURCES = [
    Source("syntax-error", f"{_HEAD}:\n    return weights, state\n", "train_step", "SyntaxError"),
    Source("missing-name", f"{_HEAD}):\n    return weights, state\n", "trainstep", "trainstep"),
    Source(
        "missing-module",
        f"import a_module_that_is_not_there\n\n\n{_HEAD}):\n    return weights, state\n",
        "train_step",
        "a_module_that_is_not_there",
    ),
    Source("raises-on-import", 'raise RuntimeError("not today")\n', "train_step", "not today"),
    Source("exits-on-import", "import sys\n\nsys.exit(0)\n", "train_step", "SystemExit"),
    Source("empty", "", "train_step", "train_step"),
    Source("not-text", "\x00\x01", "train_step", ""),
]
