"""A Keras model with a training step of its own is checked as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.frameworks
os.environ.setdefault("KERAS_BACKEND", "torch")  # before Keras is loaded
pytest.importorskip("keras")
pytest.importorskip("jax")

import torch  # noqa: E402

from rsam_ref.conformance import check  # noqa: E402
from rsam_ref.conformance.isolated import check_isolated  # noqa: E402
from rsam_ref.conformance.observe.forms import form_of  # noqa: E402

from .keras_models import Around, Rsam, Sam, make  # noqa: E402

HERE = Path(__file__).parent


def codes(report):
    return [f.code for f in report.findings if f.diverges]


RIGHT = [(Sam, "sam"), (Around, "sam"), (make, "sam"), (Rsam, "rsam")]


@pytest.mark.parametrize(("model", "algorithm"), RIGHT)
def test_a_right_model_conforms(model, algorithm):
    assert form_of(model) == "keras"
    report = check(model, algorithm)
    assert codes(report) == [], report
    assert report.algorithm == algorithm
    assert report.probes["save and resume"] == "passed"


def test_the_optimizer_that_a_model_came_with_is_replayed():
    report = check(make, "sam")
    assert "update.own-base" in [f.code for f in report.findings], report


class Unnormalised(Sam):
    def scales(self, gradients):
        return [self.rho] * len(gradients)


class PerTensor(Sam):
    def scales(self, gradients):
        return [self.rho / (g.norm() + 1e-12) for g in gradients]


class NotRestored(Sam):
    def put_back(self, saved):
        pass


class FirstGradient(Sam):
    def fed(self, first, second):
        return first


class OtherAxis(Rsam):
    def norms(self, p):
        return torch.sqrt((p**2).sum(dim=-1, keepdim=True))


class LamOnNoise(Rsam):
    def ascent(self, gradient, noise):
        return gradient + self.lam * noise


WRONG = {
    "ascent.not-normalised": (Unnormalised, "sam"),
    "ascent.norm-per-tensor": (PerTensor, "sam"),
    "restore.not-undone": (NotRestored, "sam"),
    "update.uses-first-gradient": (FirstGradient, "sam"),
    "noise.wrong-axis": (OtherAxis, "rsam"),
    "direction.lam-on-noise": (LamOnNoise, "rsam"),
}


@pytest.mark.parametrize("code", WRONG)
def test_what_is_wrong_with_a_model_is_named(code):
    model, algorithm = WRONG[code]
    assert codes(check(model, algorithm))[:1] == [code]


def test_keras_may_run_on_jax(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND")  # the file says which: it imports JAX
    report = check_isolated(f"{HERE / 'keras_in_jax.py'}:Sam", "sam")
    assert codes(report) == [], report
    wrong = check_isolated(f"{HERE / 'keras_in_jax.py'}:NotRestored", "sam")
    assert codes(wrong)[:1] == ["restore.not-undone"]
