"""A norm that is right but for a constant in it, or for the precision that it is taken in."""

from __future__ import annotations

import numpy as np
import pytest

from rsam_ref.conformance import check

from .plants import asam, divided_by, dot, norm, rsam, sam, stretch

LARGE, SMALL = "ascent.epsilon-too-large", "precision.epsilon"


def found(subject, algorithm="sam"):
    """Codes of what a check finds of the norm, and the evidence of the first."""
    report = check(subject, algorithm, seed=0)
    told = [f for f in report.findings if f.stage in ("ascent", "precision")]
    told = [
        f for f in told if f.code not in ("precision.type-changed", "precision.float16-overflow")
    ]
    return [f.code for f in told], told[0].evidence if told else {}


def under_the_root(a, c):
    return (dot(a, a) + c) ** 0.5


def tensors_under_the_root(a, c):
    return sum(np.sum(x * x) + c for x in a) ** 0.5


def beside_each(a, c):
    return sum((np.linalg.norm(x) + c) ** 2 for x in a) ** 0.5


def beside_the_sum(a, c):
    return sum(np.linalg.norm(x) for x in a) + c


@pytest.mark.parametrize(
    ("length", "constant", "code", "place"),
    [
        (lambda a, c: norm(a) + c, 1e-2, LARGE, "beside the norm"),
        (lambda a, c: norm(a) + c, 1e-6, SMALL, "beside the norm"),
        (under_the_root, 1e-2, LARGE, "under the root"),
        (under_the_root, 1e-4, LARGE, "under the root"),
        (under_the_root, 1e-6, LARGE, "under the root"),
        (under_the_root, 1e-8, SMALL, "under the root"),
        (tensors_under_the_root, 1e-3, LARGE, "under the root"),
        (beside_each, 1e-3, LARGE, "beside each tensor's norm"),
        (lambda a, c: under_the_root(a, c) + c, 1e-3, LARGE, "under the root and beside it"),
        (lambda a, c: dot(a, a) + c, 1e-3, "ascent.squared-norm", "beside the squared norm"),
        (beside_the_sum, 1e-3, "ascent.sum-of-norms", "beside the sum of norms"),
    ],
)
def test_a_constant_is_told_wherever_it_stands(length, constant, code, place):
    codes, evidence = found(sam(length=lambda s: s.h.rho / length(s.a, constant) * s.a))
    assert codes == [code]
    assert evidence["it stands"] == place
    times = 10 if length is tensors_under_the_root else 1  # once for each of the ten tensors
    assert evidence["the constant"] == pytest.approx(times * constant, rel=1e-3)


@pytest.mark.parametrize("power", [1, 0.5])
def test_a_constant_in_norms_of_tensors_is_told(power):
    def length(s):
        return s.a.map(lambda x: s.h.rho * x / (np.sum(x * x) ** (0.5 / power) + 1e-3) ** power)

    codes, evidence = found(sam(length=length))
    assert codes == ["ascent.norm-per-tensor"]
    assert evidence["the constant"] == pytest.approx(1e-3)


def test_a_floor_is_no_constant():
    codes, _ = found(sam(length=lambda s: s.h.rho / max(norm(s.a), 0.2) * s.a))
    assert codes == ["ascent.bounded-radius"]


def test_a_constant_is_told_of_asam_and_rsam():
    def stretched(s):
        t = stretch(s)
        return s.h.rho / under_the_root(t * s.a, 1e-3) * (t * t * s.a)

    assert found(asam(length=stretched), "asam")[0] == [LARGE]
    drawn = rsam(length=lambda s: s.h.rho / under_the_root(s.a, 1e-1) * s.a)
    assert found(drawn, "rsam")[0] == [LARGE]


def rounded(bits):
    """To so many significant bits: 8 are bfloat16's, 11 float16's."""

    def round_(x):
        share, power = np.frexp(x)
        return np.ldexp(np.round(share * 2**bits) / 2**bits, power)

    return round_


@pytest.mark.parametrize("bits", [8, 11])
@pytest.mark.parametrize(("make", "algorithm"), [(sam, "sam"), (rsam, "rsam")])
def test_a_norm_in_half_precision_is_a_note(bits, make, algorithm):
    low = rounded(bits)

    def length(a):
        return low(np.sqrt(sum(low(np.linalg.norm(x)) ** 2 for x in a)))

    codes, evidence = found(make(length=divided_by(length)), algorithm)
    assert codes == ["precision.low"]
    assert evidence["error"] < 2**-7


def test_a_tensor_that_is_missing_in_the_norm_is_no_rounding():
    codes, evidence = found(sam(length=divided_by(lambda a: norm(a[:1] + a[2:]))))
    assert codes == ["ascent.other-norm"]
    assert "without" in evidence["divided by"]


def test_a_small_schedule_is_no_rounding():
    def length(s):
        s.state["t"] = s.state.get("t", 0) + 1
        return s.h.rho * (1 - 0.005 / s.state["t"] ** 2) / norm(s.a) * s.a

    assert found(sam(length=length))[0][0] == "ascent.radius-scheduled"
