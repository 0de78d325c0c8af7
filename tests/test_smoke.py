"""The checker in a few seconds: one right function of each algorithm, and one that is neither."""

from __future__ import annotations

import pytest

from rsam_ref.conformance import check
from tests.conformance.right import RIGHT


def plain_descent(weights, loss_and_grad, state, hyper):
    _, gradients = loss_and_grad(weights)
    return [w - hyper.lr * g for w, g in zip(weights, gradients)], state


@pytest.mark.parametrize("algorithm", ["sam", "asam", "rsam"])
def test_a_right_function_conforms(algorithm):
    case = next(r for r in RIGHT if (r.form, r.algorithm) == ("function", algorithm))
    report = check(case.subject, algorithm)
    assert report.conforms, report
    assert report.algorithm == algorithm


@pytest.mark.parametrize("algorithm", ["sam", "rsam"])
def test_plain_descent_does_not(algorithm):
    report = check(plain_descent, algorithm)
    assert not report.conforms
    assert report.findings
