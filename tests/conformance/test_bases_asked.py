"""A base that is asked for: another one is a divergence, and it is said in what it is another."""

from __future__ import annotations

import numpy as np
import pytest

from rsam_ref.conformance import check

from .plants import Arrays, sam


def adam(decay, corrected=True):
    """SAM with an Adam of its own; ``decay``: where weight decay acts."""

    def move(s, w, g):
        t, wd, lr = s.state["t"], s.h.weight_decay, s.h.lr
        g = g + wd * w if decay == "coupled" else g
        m = 0.9 * s.state.get("m", 0 * g) + 0.1 * g
        v = 0.999 * s.state.get("v", 0 * g) + 0.001 * (g * g)
        s.state.update(m=m, v=v)
        first, second = (1 - 0.9**t, 1 - 0.999**t) if corrected else (1, 1)
        moved = Arrays(a / first / (np.sqrt(b / second) + 1e-8) for a, b in zip(m, v))
        shrunk = {"decoupled": lr * wd, "not times lr": wd}.get(decay, 0.0)
        return w - shrunk * w - lr * moved

    return sam(move=move)


RIGHT = [
    ("adamw", adam("decoupled")),
    ("adam", adam("coupled")),
    ("adam", adam("none")),
]
WRONG = [
    ("adamw", adam("coupled"), "coupled"),
    ("adamw", adam("not times lr"), "not times lr"),
    ("adamw", adam("none"), "no weight decay"),
    ("adamw", adam("decoupled", corrected=False), "corrections"),
    ("adam", adam("decoupled"), "decoupled (AdamW's)"),
    ("radam", adam("coupled"), "another"),
    ("sgd", adam("coupled"), "another"),
]


@pytest.mark.parametrize(("base", "subject"), RIGHT)
def test_the_base_that_was_asked_for_needs_no_note(base, subject):
    report = check(subject, "sam", base=base)
    assert report.conforms, str(report)
    assert "update.own-base" not in [f.code for f in report.findings]


@pytest.mark.parametrize(("base", "subject", "told"), WRONG)
def test_another_base_than_the_one_asked_for_diverges(base, subject, told):
    report = check(subject, "sam", base=base)
    other, *_ = report.findings
    assert (other.code, report.conforms) == ("update.other-base", False)
    assert told in other.evidence["it is"]


@pytest.mark.parametrize(
    ("asked", "held", "wrong"),
    [
        ("AdamW", "AdamW", False),
        ("Adam", "Adam", False),
        ("AdamW", "Adam", True),
        ("Adam", "AdamW", True),
        ("Adam", "RAdam", True),
        ("NAdam", "NAdam", False),
    ],
)
def test_the_base_that_an_optimizer_holds_is_told_by_its_class_and_its_decay(asked, held, wrong):
    torch = pytest.importorskip("torch")
    from .right_torch import TwoStepSam

    def make(params, hyper):
        options = {"lr": hyper.lr, "weight_decay": 0.1}
        return TwoStepSam(params, getattr(torch.optim, held), rho=hyper.rho, **options)

    found = [f.code for f in check(make, "sam", base=asked).findings if f.diverges]
    assert ("update.other-base" in found) is wrong
