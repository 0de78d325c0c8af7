"""The survey of released packages: the statement by hand, and the table on its page."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks import survey

torch = pytest.importorskip("torch")


def steps_of(algorithm, change=None):
    """A plain implementation in PyTorch; ``change`` alters its perturbation."""
    start, batches = survey.problem()
    params = [torch.tensor(w, requires_grad=True) for w in start]
    base = torch.optim.SGD(params, **survey.HYPER)

    def backward(x, y):
        base.zero_grad()
        w1, b1, w2, b2 = params
        scores = torch.tanh(torch.tensor(x) @ w1.T + b1) @ w2.T + b2
        torch.nn.functional.cross_entropy(scores, torch.tensor(y)).backward()

    after = []
    for x, y in batches:
        backward(x, y)
        with torch.no_grad():
            before = [p.clone() for p in params]
            reach = [p.abs() if algorithm == "asam" else torch.ones_like(p) for p in params]
            norm = torch.cat([(r * p.grad).ravel() for r, p in zip(reach, params)]).norm()
            scale = survey.RHO[algorithm] / norm * (change or 1.0)
            for p, r in zip(params, reach):
                p += scale * r**2 * p.grad
        backward(x, y)
        with torch.no_grad():
            for p, w in zip(params, before):
                p.copy_(w)
        base.step()
        after.append([p.detach().numpy().copy() for p in params])
    return after


@pytest.mark.parametrize("algorithm", ["sam", "asam"])
def test_the_statement_by_hand_knows_right_from_wrong(algorithm):
    by_hand = survey.by_hand(algorithm)
    assert survey.difference(steps_of(algorithm), by_hand) < 1e-12
    assert survey.difference(steps_of(algorithm, change=1.01), by_hand) > 10 * survey.SAME
    assert survey.difference(steps_of(algorithm, change=-1.0), by_hand) > 1e-3


def test_sam_is_not_asam_and_weights_that_are_no_numbers_differ_from_all():
    by_hand = survey.by_hand("sam")
    assert survey.difference(by_hand, survey.by_hand("asam")) > 1e-3
    lost = [[np.full_like(w, np.nan) for w in weights] for weights in by_hand]
    assert survey.difference(lost, by_hand) == float("inf")


def rows_of_the_page():
    _, _, rest = survey.PAGE.read_text(encoding="utf-8").partition(survey.MARKS[0])
    lines = [line for line in rest.partition(survey.MARKS[1])[0].splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_row_of_the_page_has_a_verdict_and_says_why_it_disagrees():
    rows = rows_of_the_page()
    assert [(row[0], row[1]) for row in rows] == [
        (package.replace("==", " "), name)
        for package, name in [
            *((row.package, row.name) for row in survey.ROWS),
            *((package, name) for package, name, _ in survey.NOT_RUN),
        ]
    ]
    for package, name, _, verdict, _, by_hand, agree in rows:
        assert verdict, (package, name)
        assert agree, (package, name)
        if agree != "yes":
            assert len(agree.split()) > 2, (package, name)
        elif re.fullmatch(r"\d+e[+-]\d+", by_hand):
            assert verdict.startswith("conforms") == (float(by_hand) < survey.SAME)
